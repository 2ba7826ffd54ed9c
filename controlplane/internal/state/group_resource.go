package state

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// A keptResource is a network resource inside a transaction: its row and what it says.
type keptResource struct {
	row store.Object
	object[resourceBody]
}

func resourceIDs(resources []keptResource) []string {
	ids := make([]string, len(resources))
	for i, r := range resources {
		ids[i] = r.ID
	}
	return ids
}

// resourcesIn shows the network resources in a group, in their order.
func (a *account) resourcesIn(group string) []api.ResourceReference {
	ids := a.inGroup.ids(group)
	refs := make([]api.ResourceReference, len(ids))
	for i, id := range ids {
		refs[i] = api.ResourceReference{Id: id, Type: api.ResourceReferenceType(resourceType(a.resources.byID[id].Body.Address))}
	}
	return refs
}

// readResources reads network resources by their ids; unknown ones are left out.
func (w *write) readResources(ids []string) ([]keptResource, error) {
	rows, err := store.ObjectsByID(w.ctx, w.tx, w.account.ID, store.KindNetworkResource, ids)
	if err != nil {
		return nil, err
	}
	resources := make([]keptResource, len(rows))
	for i, row := range rows {
		o, err := networkResources.read(row)
		if err != nil {
			return nil, err
		}
		resources[i] = keptResource{row, o}
	}
	return resources, nil
}

// groupResources returns the network resources in a group, in their order.
func (w *write) groupResources(group string) ([]keptResource, error) {
	refs, err := store.RefsTo(w.ctx, w.tx, w.account.ID, store.KindGroup, group)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, ref := range refs {
		if ref.FromKind == store.KindNetworkResource {
			ids = append(ids, ref.FromID)
		}
	}
	resources, err := w.readResources(ids)
	slices.SortFunc(resources, func(x, y keptResource) int { return cmp.Compare(x.Body.placeIn(group), y.Body.placeIn(group)) })
	return resources, err
}

// placeIn is the place of a resource among those of a group; -1 when it is not in it.
func (b resourceBody) placeIn(group string) int64 {
	if at := slices.Index(b.Groups, group); at >= 0 {
		return b.Places[at]
	}
	return -1
}

// into is the body with the resource in a group at a place.
func (b resourceBody) into(group string, place int64) resourceBody {
	b.Groups, b.Places = slices.Clone(b.Groups), slices.Clone(b.Places)
	if at := slices.Index(b.Groups, group); at >= 0 {
		b.Places[at] = place
		return b
	}
	b.Groups, b.Places = append(b.Groups, group), append(b.Places, place)
	return b
}

// outOf is the body with the resource no longer in a group that it is in.
func (b resourceBody) outOf(group string) resourceBody {
	at := slices.Index(b.Groups, group)
	b.Groups, b.Places = slices.Delete(slices.Clone(b.Groups), at, at+1), slices.Delete(slices.Clone(b.Places), at, at+1)
	return b
}

// knownResources returns the network resources that a request for a group names,
// and what is wrong with them.
func (w *write) knownResources(refs []api.ResourceReference) (ids []string, wrong []problem.FieldError, err error) {
	for _, ref := range refs {
		ids = append(ids, ref.Id)
	}
	known, err := w.readResources(ids)
	if err != nil {
		return nil, nil, err
	}
	for i, ref := range refs {
		at := fmt.Sprintf("resources[%d].", i)
		found := slices.IndexFunc(known, func(r keptResource) bool { return r.ID == ref.Id })
		switch {
		case found < 0:
			wrong = append(wrong, problem.Field(at+"id", "unknown network resource id %q", ref.Id))
		case slices.Index(ids, ref.Id) < i:
			wrong = append(wrong, problem.Field(at+"id", "occurs twice: %s", ref.Id))
		case string(ref.Type) != string(resourceType(known[found].Body.Address)):
			address := known[found].Body.Address
			wrong = append(wrong, problem.Field(at+"type", "must be %s, which the address %s is, not %s", resourceType(address), address, ref.Type))
		}
	}
	return ids, wrong, nil
}

// setGroupResources turns the network resources had of a group into want, in the
// order of want. Those before the first difference keep their places.
func (w *write) setGroupResources(group string, had []keptResource, want []string) error {
	var kept []string
	for _, r := range had {
		if slices.Contains(want, r.ID) {
			kept = append(kept, r.ID)
			continue
		}
		if err := networkResources.replace(w, r.row, r.Name, r.Body.outOf(group)); err != nil {
			return err
		}
	}
	same := 0
	for same < len(kept) && kept[same] == want[same] {
		same++
	}
	resources, err := w.readResources(want[same:])
	if err != nil {
		return err
	}
	for _, id := range want[same:] {
		r := resources[slices.IndexFunc(resources, func(r keptResource) bool { return r.ID == id })]
		if err := networkResources.replace(w, r.row, r.Name, r.Body.into(group, w.seq())); err != nil {
			return err
		}
	}
	return nil
}

// ListGroupResources lists the edges between a group and its network resources, in
// their order.
func (s *State) ListGroupResources(_ context.Context, p auth.Principal, groupID string, params api.ListGroupResourcesParams) (items []api.GroupResource, next string, err error) {
	err = s.reading(p, func(a *account) error {
		if _, ok := a.groups.get(groupID); !ok {
			return problem.NotFound("group")
		}
		var edges ordered[string]
		for id, position := range a.inGroup[groupID] {
			edges.put(id, position, id)
		}
		items, next, err = list(&edges, page{limit: params.Limit, cursor: params.Cursor}, any1, func(id string) api.GroupResource {
			return showGroupResource(groupID, id)
		})
		return err
	})
	return items, next, err
}

// GetGroupResource reads one edge.
func (s *State) GetGroupResource(_ context.Context, p auth.Principal, groupID, resourceID string) (answer api.GroupResource, err error) {
	err = s.reading(p, func(a *account) error {
		if _, ok := a.groups.get(groupID); !ok {
			return problem.NotFound("group")
		}
		if _, ok := a.inGroup[groupID][resourceID]; !ok {
			return problem.NotFound("network resource")
		}
		return nil
	})
	return showGroupResource(groupID, resourceID), err
}

// CreateGroupResource puts one network resource into a group. One that is in it
// stays: that is no change.
func (s *State) CreateGroupResource(ctx context.Context, p auth.Principal, groupID string, req api.GroupResourceRequest) (answer api.GroupResource, err error) {
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	err = s.write(ctx, p, api.PermissionGroupsUpdate, func(w *write) error {
		o, err := w.changeableGroup(groupID, "", "given members by hand")
		if err != nil {
			return err
		}
		found, err := w.readResources([]string{req.ResourceId})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return problem.Invalid(problem.Field("resource_id", "unknown network resource id %q", req.ResourceId))
		}
		r := found[0]
		if r.Body.placeIn(groupID) >= 0 {
			return errUnchanged
		}
		w.touched[groupID] = true
		if err := networkResources.replace(w, r.row, r.Name, r.Body.into(groupID, w.seq())); err != nil {
			return err
		}
		return w.note("group.resource.add", groupID, o.Name, nil, map[string]any{"resource_id": r.ID, "resource_name": r.Name})
	}, func(*account) {})
	return showGroupResource(groupID, req.ResourceId), err
}

// DeleteGroupResource takes one network resource out of a group. One that is not in
// it is no error.
func (s *State) DeleteGroupResource(ctx context.Context, p auth.Principal, groupID, resourceID, ifMatch string) error {
	return s.write(ctx, p, api.PermissionGroupsUpdate, func(w *write) error {
		o, err := w.changeableGroup(groupID, "", "changed")
		if err != nil {
			return err
		}
		found, err := w.readResources([]string{resourceID})
		if err != nil {
			return err
		}
		if len(found) == 0 || found[0].Body.placeIn(groupID) < 0 {
			return errUnchanged
		}
		if err := checkMatch(ifMatch, "edge to the network resource", edgeVersion); err != nil {
			return err
		}
		r := found[0]
		w.touched[groupID] = true
		if err := networkResources.replace(w, r.row, r.Name, r.Body.outOf(groupID)); err != nil {
			return err
		}
		return w.note("group.resource.remove", groupID, o.Name, map[string]any{"resource_id": r.ID, "resource_name": r.Name}, nil)
	}, func(*account) {})
}

func showGroupResource(groupID, resourceID string) api.GroupResource {
	return api.GroupResource{GroupId: groupID, ResourceId: resourceID, Version: edgeVersion}
}
