package state

import (
	"context"
	"net/netip"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// resourceBody is what the store keeps of a network resource besides its name. It
// owns the edges to its groups: what a group shows of them is read from here.
type resourceBody struct {
	Network     string   `json:"network_id"`
	Description string   `json:"description"`
	Address     string   `json:"address"` // as it was sent
	Enabled     bool     `json:"enabled"`
	Groups      []string `json:"groups"` // in the order in which they were sent
	// Places orders the resources of each of the groups.
	Places []int64 `json:"group_places"`
}

// networkResources is the noun of what can be reached through the routers of a network.
var networkResources = &noun[resourceBody, api.NetworkResource]{
	kind: store.KindNetworkResource, title: "network resource",
	creating: api.PermissionNetworksCreate, changing: api.PermissionNetworksUpdate, deleting: api.PermissionNetworksDelete,
	in:       func(a *account) *ordered[object[resourceBody]] { return &a.resources },
	unique:   func(name string, _ resourceBody) (field, value string) { return "name", name },
	refs:     resourceBody.refs,
	indexed:  (*account).resourceEntries,
	show:     (*account).showResource,
	compiled: (*account).compiledResource,
	gone: func(_ *account, r object[resourceBody]) []netmap.Change {
		return []netmap.Change{netmap.ResourceRemove{ID: r.ID}}
	},
}

func (a *account) compiledResource(r object[resourceBody]) []netmap.Change {
	prefix, domain := destination(r.Body.Address)
	if !r.Body.Enabled || domain != "" && !a.resolves {
		return []netmap.Change{netmap.ResourceRemove{ID: r.ID}}
	}
	return []netmap.Change{netmap.ResourcePut{Resource: netmap.Resource{
		ID: r.ID, Name: r.Name, Network: r.Body.Network, Prefix: prefix, Domain: domain, Groups: r.Body.Groups,
	}}}
}

func (b resourceBody) refs() []store.Ref {
	return append(groupRefs("groups", b.Groups), store.Ref{Field: parentField, ToKind: store.KindNetwork, ToID: b.Network})
}

// groupRefs are references to groups in one field.
func groupRefs(field string, ids []string) (refs []store.Ref) {
	for _, id := range ids {
		refs = append(refs, store.Ref{Field: field, ToKind: store.KindGroup, ToID: id})
	}
	return refs
}

func (a *account) resourceEntries(r object[resourceBody]) []entry {
	entries := []entry{{a.resourcesOf, r.Body.Network, r.Seq}}
	for i, group := range r.Body.Groups {
		entries = append(entries, entry{a.inGroup, group, r.Body.Places[i]})
	}
	return entries
}

// destination is the prefix or the domain that an address of the contract means;
// a host is a prefix of full length.
func destination(address string) (prefix netip.Prefix, domain string) {
	if host, err := netip.ParseAddr(address); err == nil {
		return netip.PrefixFrom(host, host.BitLen()), ""
	}
	if prefix, err := netip.ParsePrefix(address); err == nil {
		return prefix, ""
	}
	return netip.Prefix{}, address
}

// resourceType is the kind of resource that an address makes.
func resourceType(address string) api.NetworkResourceType {
	switch prefix, domain := destination(address); {
	case domain != "":
		return api.NetworkResourceTypeDomain
	case prefix.IsSingleIP():
		return api.NetworkResourceTypeHost
	}
	return api.NetworkResourceTypeSubnet
}

func (a *account) showResource(r object[resourceBody]) api.NetworkResource {
	return api.NetworkResource{
		Id: r.ID, NetworkId: r.Body.Network, Name: r.Name, Description: r.Body.Description, Type: resourceType(r.Body.Address),
		Address: r.Body.Address, Enabled: r.Body.Enabled, Groups: a.groupReferences(r.Body.Groups), Version: r.Version,
	}
}

// ListNetworkResources lists the resources of a network.
func (s *State) ListNetworkResources(_ context.Context, p auth.Principal, networkID string, params api.ListNetworkResourcesParams) ([]api.NetworkResource, string, error) {
	if err := s.reading(p, func(a *account) error { return a.hasNetwork(networkID) }); err != nil {
		return nil, "", err
	}
	called := withName[resourceBody](params.Name)
	return networkResources.list(s, p, page{params.Ids, params.Limit, params.Cursor}, func(r object[resourceBody]) bool {
		return r.Body.Network == networkID && called(r)
	})
}

// GetNetworkResource reads a resource of a network.
func (s *State) GetNetworkResource(_ context.Context, p auth.Principal, networkID, id string) (api.NetworkResource, error) {
	return networkResources.get(s, p, networkID, id)
}

// CreateNetworkResource creates a resource. A name that another resource of the
// account has is a conflict.
func (s *State) CreateNetworkResource(ctx context.Context, p auth.Principal, networkID string, req api.NetworkResourceRequest) (answer api.NetworkResource, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	return networkResources.create(ctx, s, p, func(w *write) (string, resourceBody, error) {
		if err := w.hasNetwork(networkID); err != nil {
			return "", resourceBody{}, err
		}
		body, err := w.resourceBody(req, resourceBody{Network: networkID})
		return req.Name, body, err
	})
}

// UpdateNetworkResource replaces a resource.
func (s *State) UpdateNetworkResource(ctx context.Context, p auth.Principal, networkID, id string, req api.NetworkResourceRequest, ifMatch string) (api.NetworkResource, error) {
	req.ApplyDefaults()
	return networkResources.update(ctx, s, p, networkID, id, ifMatch, func(w *write, had object[resourceBody]) (string, resourceBody, error) {
		if err := faults(req.Validate()); err != nil {
			return "", resourceBody{}, err
		}
		body, err := w.resourceBody(req, had.Body)
		return req.Name, body, err
	})
}

// DeleteNetworkResource removes a resource. One that a policy names stays: the
// answer lists the policies.
func (s *State) DeleteNetworkResource(ctx context.Context, p auth.Principal, networkID, id, ifMatch string) error {
	return networkResources.delete(ctx, s, p, networkID, id, ifMatch, func(w *write, had object[resourceBody]) error {
		for _, group := range had.Body.Groups {
			w.touched[group] = true
		}
		return nil
	})
}

// resourceBody turns a request into what is kept; had is what was kept so far.
// Groups that show something else of the resource than before count a change.
func (w *write) resourceBody(req api.NetworkResourceRequest, had resourceBody) (resourceBody, error) {
	body := resourceBody{Network: had.Network, Description: *req.Description, Address: req.Address, Enabled: *req.Enabled}
	wrong, err := w.groupFields(groupField{field: "groups", texts: *req.Groups, into: &body.Groups, notAll: true})
	if err != nil {
		return body, err
	}
	if err := faults(nil, wrong...); err != nil {
		return body, err
	}
	changed := resourceType(had.Address) != resourceType(body.Address)
	for _, group := range body.Groups {
		place := had.placeIn(group)
		if place < 0 {
			place = w.seq()
		}
		body.Places = append(body.Places, place)
		if changed || had.placeIn(group) < 0 {
			w.touched[group] = true
		}
	}
	for _, group := range had.Groups {
		if body.placeIn(group) < 0 {
			w.touched[group] = true
		}
	}
	return body, nil
}
