package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

const issuedByAPI = "api"

// groupBody is what the store keeps of a group besides name and members.
type groupBody struct {
	Issued string `json:"issued"`
}

func readGroup(o store.Object) (group, error) {
	var body groupBody
	if err := json.Unmarshal([]byte(o.Body), &body); err != nil {
		return group{}, fmt.Errorf("group %s: %w", o.ID, err)
	}
	return group{ID: o.ID, Name: o.Name, Seq: o.Seq, Version: o.Version, Issued: body.Issued}, nil
}

// groupNameKey makes names unique among the groups of one origin.
func groupNameKey(issued, name string) *string {
	key := issued + "/" + name
	return &key
}

// ListGroups lists the groups. With a name that no group has it answers not
// found, as existing clients expect.
func (s *State) ListGroups(_ context.Context, p auth.Principal, params api.ListGroupsParams) (items []api.Group, next string, err error) {
	err = s.reading(p, func(a *account) error {
		items, next, err = list(&a.groups, page{params.Ids, params.Limit, params.Cursor},
			named(params.Name, func(g group) string { return g.Name }), a.showGroup)
		if err == nil && params.Name != nil && len(items) == 0 {
			return problem.NotFound("group")
		}
		return err
	})
	return items, next, err
}

// GetGroup reads a group.
func (s *State) GetGroup(_ context.Context, p auth.Principal, id string) (answer api.Group, err error) {
	err = s.reading(p, func(a *account) error {
		g, ok := a.groups.get(id)
		if !ok {
			return problem.NotFound("group")
		}
		answer = a.showGroup(g)
		return nil
	})
	return answer, err
}

func (a *account) showGroup(g group) api.Group {
	ids := a.memberIDs(g.ID)
	members := make([]api.PeerReference, len(ids))
	for i, id := range ids {
		members[i] = api.PeerReference{Id: id, Name: a.peers.byID[id].Name}
	}
	resources := a.resourcesIn(g.ID)
	return api.Group{
		Id: g.ID, Name: g.Name, Issued: api.GroupIssued(g.Issued), Peers: members, PeersCount: len(members),
		Resources: resources, ResourcesCount: len(resources), ManagedBy: a.managedBy(g.ID), Version: g.Version,
	}
}

func (a *account) groupReference(id string) api.GroupReference {
	return api.GroupReference{Id: id, Name: a.groups.byID[id].Name, PeersCount: len(a.members[id]), ResourcesCount: len(a.inGroup[id])}
}

func (a *account) groupReferences(ids []string) []api.GroupReference {
	refs := make([]api.GroupReference, len(ids))
	for i, id := range ids {
		refs[i] = a.groupReference(id)
	}
	return refs
}

// CreateGroup creates a group, with its members if they are given. A taken name
// is a conflict; an unknown peer or network resource is invalid.
func (s *State) CreateGroup(ctx context.Context, p auth.Principal, req api.GroupRequest) (answer api.Group, err error) {
	req.ApplyDefaults()
	if err := checkGroup(req); err != nil {
		return answer, err
	}
	var id string
	err = s.write(ctx, p, api.PermissionGroupsCreate, func(w *write) error {
		o, err := w.insertGroup(req.Name)
		if errors.Is(err, store.ErrExists) {
			return problem.Conflict("group", "name", req.Name)
		}
		if err != nil {
			return err
		}
		id = o.ID
		want, err := w.wantedMembers(req, groupMembers{})
		if err != nil {
			return err
		}
		for _, peer := range want.peers {
			if err := w.addMember(o.ID, peer, "api"); err != nil {
				return err
			}
		}
		if err := w.setGroupResources(o.ID, nil, want.resources); err != nil {
			return err
		}
		delete(w.touched, o.ID) // its first version has them already
		return w.note("group.create", id, req.Name, nil, groupAudit(req.Name, want))
	}, func(a *account) { answer = a.showGroup(a.groups.byID[id]) })
	return answer, err
}

func checkGroup(req api.GroupRequest) error {
	var more []problem.FieldError
	if req.Name == allGroup {
		more = append(more, problem.Field("name", "%s is the built-in group of every peer; choose another name", allGroup))
	}
	return faults(req.Validate(), more...)
}

func (w *write) insertGroup(name string) (store.Object, error) {
	body, err := json.Marshal(groupBody{Issued: issuedByAPI})
	if err != nil {
		return store.Object{}, err
	}
	o := store.Object{
		ID: newID(), AccountID: w.account.ID, Kind: store.KindGroup, Seq: w.seq(), Name: name, NameKey: groupNameKey(issuedByAPI, name),
		CreatedAt: w.now, Version: 1, Body: string(body),
	}
	w.change(change{Object: &o})
	return o, store.Objects.Insert(w.ctx, w.tx, &o)
}

// freeGroupName answers a conflict when another group than except has the name.
func (w *write) freeGroupName(name, except string) error {
	other, err := store.FindObjectByKey(w.ctx, w.tx, w.account.ID, store.KindGroup, *groupNameKey(issuedByAPI, name))
	switch {
	case errors.Is(err, store.ErrNoRow), err == nil && other.ID == except:
		return nil
	case err != nil:
		return err
	}
	return problem.Conflict("group", "name", name)
}

// groupMembers are the ids of the peers and of the network resources in a group, in
// their order.
type groupMembers struct {
	peers, resources []string
}

// wantedMembers returns the members that a request names; those of a kind that it
// does not name stay as they are in had. All faults are told at once.
func (w *write) wantedMembers(req api.GroupRequest, had groupMembers) (groupMembers, error) {
	want := had
	var wrong []problem.FieldError
	if ids, err := req.Peers.Get(); err == nil {
		want.peers = ids
		known, err := store.KnownPeers(w.ctx, w.tx, w.account.ID, ids)
		if err != nil {
			return want, err
		}
		for i, id := range ids {
			if !known[id] {
				wrong = append(wrong, problem.Field(fmt.Sprintf("peers[%d]", i), "unknown peer id %q", id))
			}
		}
	}
	if refs, err := req.Resources.Get(); err == nil {
		ids, more, err := w.knownResources(refs)
		if err != nil {
			return want, err
		}
		want.resources, wrong = ids, append(wrong, more...)
	}
	return want, faults(nil, wrong...)
}

// UpdateGroup replaces a group. Absent members of a kind stay as they are; an empty
// list removes them all.
func (s *State) UpdateGroup(ctx context.Context, p auth.Principal, id string, req api.GroupRequest, ifMatch string) (answer api.Group, err error) {
	req.ApplyDefaults()
	err = s.write(ctx, p, api.PermissionGroupsUpdate, func(w *write) error {
		o, err := w.changeableGroup(id, ifMatch, "changed")
		if err != nil {
			return err
		}
		if err := checkGroup(req); err != nil {
			return err
		}
		if err := w.freeGroupName(req.Name, id); err != nil {
			return err
		}
		return w.replaceGroup(o, req)
	}, func(a *account) { answer = a.showGroup(a.groups.byID[id]) })
	return answer, err
}

func (w *write) replaceGroup(o store.Object, req api.GroupRequest) error {
	peers, err := w.members(o.ID)
	if err != nil {
		return err
	}
	resources, err := w.groupResources(o.ID)
	if err != nil {
		return err
	}
	had := groupMembers{peers, resourceIDs(resources)}
	want, err := w.wantedMembers(req, had)
	if err != nil {
		return err
	}
	if o.Name == req.Name && slices.Equal(had.peers, want.peers) && slices.Equal(had.resources, want.resources) {
		return errUnchanged
	}
	if err := w.setMembers(o.ID, had.peers, want.peers); err != nil {
		return err
	}
	if err := w.setGroupResources(o.ID, resources, want.resources); err != nil {
		return err
	}
	delete(w.touched, o.ID)
	before := groupAudit(o.Name, had)
	g, err := readGroup(o)
	if err != nil {
		return err
	}
	o.Name, o.NameKey, o.Version = req.Name, groupNameKey(g.Issued, req.Name), o.Version+1
	w.change(change{Object: &o})
	if err := store.Objects.Update(w.ctx, w.tx, &o); err != nil {
		return err
	}
	return w.note("group.update", o.ID, o.Name, before, groupAudit(o.Name, want))
}

// changeableGroup reads a group that may be changed: not All, and at the version
// that the caller knows.
func (w *write) changeableGroup(id, ifMatch, verb string) (store.Object, error) {
	o, err := store.FindObject(w.ctx, w.tx, w.account.ID, store.KindGroup, id)
	if o, err = found(o, err, "group"); err != nil {
		return o, err
	}
	if o.Name == allGroup && *o.NameKey == *groupNameKey(issuedByAPI, allGroup) {
		return o, problem.Invalid(problem.Field("", "the built-in group %s holds every peer and cannot be %s", allGroup, verb))
	}
	return o, checkMatch(ifMatch, "group", o.Version)
}

// DeleteGroup removes a group. One that a policy, a setup key, a user, a network
// resource, a router or a route names is in use.
func (s *State) DeleteGroup(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.write(ctx, p, api.PermissionGroupsDelete, func(w *write) error {
		o, err := w.changeableGroup(id, ifMatch, "deleted")
		if err != nil {
			return err
		}
		referrers, err := w.referrers(store.KindGroup, id)
		if err != nil {
			return err
		}
		if len(referrers) > 0 {
			return problem.InUse("group", o.Name, referrers...)
		}
		members, err := w.members(id)
		if err != nil {
			return err
		}
		for _, peer := range members {
			if err := store.Memberships.Delete(w.ctx, w.tx, id, peer); err != nil {
				return err
			}
		}
		w.change(change{Object: &o, Remove: true})
		if err := store.Objects.Delete(w.ctx, w.tx, id); err != nil {
			return err
		}
		return w.note("group.delete", id, o.Name, groupAudit(o.Name, groupMembers{peers: members}), nil)
	}, func(*account) {})
}

func groupAudit(name string, members groupMembers) map[string]any {
	return map[string]any{"name": name, "peers": orEmpty(members.peers), "resources": orEmpty(members.resources)}
}

// orEmpty is a list that is never null in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// referrers lists what names an object.
func (w *write) referrers(kind, id string) ([]problem.Referrer, error) {
	return referrers(w.ctx, w.tx, w.account.ID, kind, id)
}

func referrers(ctx context.Context, tx *store.Tx, accountID, kind, id string) ([]problem.Referrer, error) {
	refs, err := store.RefsTo(ctx, tx, accountID, kind, id)
	if err != nil {
		return nil, err
	}
	refs = slices.DeleteFunc(refs, func(ref store.Ref) bool { return ref.Field == parentField })
	list := make([]problem.Referrer, len(refs))
	for i, ref := range refs {
		list[i] = problem.Referrer{Type: ref.FromKind, ID: ref.FromID, Field: ref.Field}
		switch ref.FromKind {
		case store.KindSetupKey:
			k, err := store.FindSetupKey(ctx, tx, accountID, ref.FromID)
			if err != nil {
				return nil, err
			}
			list[i].Name = k.Name
		case store.KindUser:
			u, err := store.FindUser(ctx, tx, accountID, ref.FromID)
			if err != nil {
				return nil, err
			}
			list[i].Name = cmp.Or(u.Name, u.Email)
		case store.KindAccount:
			list[i].Name = settingsName
		case store.KindInvite:
			invite, err := store.FindInvite(ctx, tx, accountID, ref.FromID)
			if err != nil {
				return nil, err
			}
			list[i].Name = invite.Email
		default:
			o, err := store.FindObject(ctx, tx, accountID, ref.FromKind, ref.FromID)
			if err != nil {
				return nil, err
			}
			list[i].Name = cmp.Or(o.Name, o.ID) // a router has no name
		}
	}
	return list, nil
}

// groupTexts are texts of a request that name groups by id or by name, with the
// place of each.
type groupTexts struct {
	texts, fields []string
}

func (g *groupTexts) add(field string, texts []string) {
	for i, text := range texts {
		g.addOne(fmt.Sprintf("%s[%d]", field, i), text)
	}
}

func (g *groupTexts) addOne(field, text string) {
	g.texts, g.fields = append(g.texts, text), append(g.fields, field)
}

// resolve returns the id of each text. An id wins over a name; a text that is
// neither, or the name of several groups, is a fault.
func (w *write) resolve(g groupTexts) (ids map[string]string, all string, wrong []problem.FieldError, err error) {
	rows, err := w.groupsMeant(slices.Compact(slices.Sorted(slices.Values(g.texts))))
	if err != nil {
		return nil, "", nil, err
	}
	ids, byName := map[string]string{}, map[string]map[string]bool{}
	for _, row := range rows {
		ids[row.ID] = row.ID
		if byName[row.Name] == nil {
			byName[row.Name] = map[string]bool{}
		}
		byName[row.Name][row.ID] = true
		if row.Name == allGroup && row.NameKey != nil && *row.NameKey == *groupNameKey(issuedByAPI, allGroup) {
			all = row.ID
		}
	}
	for i, text := range g.texts {
		if ids[text] != "" {
			continue
		}
		switch named := byName[text]; len(named) {
		case 0:
			wrong = append(wrong, problem.Field(g.fields[i], "unknown group id %q", text))
		case 1:
			ids[text] = sortedKeys(named)[0]
		default:
			wrong = append(wrong, problem.Field(g.fields[i], "%q is the name of %d groups; give the id of one", text, len(named)))
		}
	}
	return ids, all, wrong, nil
}

// groupsMeant returns the groups whose id or name, whoever issued them, is one of texts.
func (w *write) groupsMeant(texts []string) ([]store.Object, error) {
	byID, err := store.ObjectsByID(w.ctx, w.tx, w.account.ID, store.KindGroup, texts)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, issued := range []api.GroupIssued{api.GroupIssuedApi, api.GroupIssuedJwt, api.GroupIssuedIntegration} {
		for _, text := range texts {
			keys = append(keys, *groupNameKey(string(issued), text))
		}
	}
	byName, err := store.ObjectsByKey(w.ctx, w.tx, w.account.ID, store.KindGroup, keys)
	return append(byID, byName...), err
}

// resolved maps texts to ids and finds texts that mean the same group.
func resolved(field string, texts []string, ids map[string]string) (list []string, wrong []problem.FieldError) {
	list = make([]string, 0, len(texts))
	for i, text := range texts {
		id := ids[text]
		if id != "" && slices.Contains(list, id) {
			wrong = append(wrong, problem.Field(fmt.Sprintf("%s[%d]", field, i), "names the same group as an earlier element"))
		}
		list = append(list, id)
	}
	return list, wrong
}

// A groupField is one list of groups in a request: its field, what was sent, and
// where the ids go.
type groupField struct {
	field  string
	texts  []string
	into   *[]string
	notAll bool // the group All has no place in it
}

// groupFields resolves the groups of fields by id or by name and finds what is wrong
// with them.
func (w *write) groupFields(lists ...groupField) (wrong []problem.FieldError, err error) {
	var texts groupTexts
	for _, l := range lists {
		texts.add(l.field, l.texts)
	}
	ids, all, wrong, err := w.resolve(texts)
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		list, more := resolved(l.field, l.texts, ids)
		*l.into, wrong = list, append(wrong, more...)
		if at := slices.Index(list, all); l.notAll && all != "" && at >= 0 {
			wrong = append(wrong, problem.Field(fmt.Sprintf("%s[%d]", l.field, at), "the built-in group %s holds peers only", allGroup))
		}
	}
	return wrong, nil
}
