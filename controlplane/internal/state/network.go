package state

import (
	"context"
	"maps"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// networkBody is what the store keeps of a network besides its name. Its resources
// and routers name it.
type networkBody struct {
	Description string `json:"description"`
}

// networks is the noun of the places outside of the mesh.
var networks = &noun[networkBody, api.Network]{
	kind: store.KindNetwork, title: "network",
	creating: api.PermissionNetworksCreate, changing: api.PermissionNetworksUpdate, deleting: api.PermissionNetworksDelete,
	in:   func(a *account) *ordered[object[networkBody]] { return &a.networks },
	show: (*account).showNetwork,
}

func (a *account) showNetwork(n object[networkBody]) api.Network {
	resources, routers := a.resourcesOf.ids(n.ID), a.routersOf.ids(n.ID)
	return api.Network{
		Id: n.ID, Name: n.Name, Description: n.Body.Description, Resources: resources, Routers: routers,
		Policies: a.policiesOf(resources), RoutingPeersCount: len(a.routingPeers(routers)), Version: n.Version,
	}
}

// policiesOf returns the policies with one of the network resources at an end, by
// itself or in a group, in the order of their creation.
func (a *account) policiesOf(resources []string) []string {
	found := map[string]int64{}
	for _, id := range resources {
		maps.Copy(found, a.reaching[id])
		for _, group := range a.resources.byID[id].Body.Groups {
			maps.Copy(found, a.reaching[group])
		}
	}
	return byRank(found)
}

// routingPeers is the set of peers that the enabled ones of the routers are.
func (a *account) routingPeers(routers []string) map[string]bool {
	peers := map[string]bool{}
	for _, id := range routers {
		router := a.routers.byID[id].Body
		if !router.Enabled {
			continue
		}
		if router.Peer != "" {
			peers[router.Peer] = true
		}
		for _, group := range router.PeerGroups {
			for peer := range a.members[group] {
				peers[peer] = true
			}
		}
	}
	return peers
}

// ListNetworks lists the networks.
func (s *State) ListNetworks(_ context.Context, p auth.Principal, params api.ListNetworksParams) ([]api.Network, string, error) {
	return networks.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[networkBody](params.Name))
}

// GetNetwork reads a network.
func (s *State) GetNetwork(_ context.Context, p auth.Principal, id string) (api.Network, error) {
	return networks.get(s, p, "", id)
}

// CreateNetwork creates a network.
func (s *State) CreateNetwork(ctx context.Context, p auth.Principal, req api.NetworkRequest) (answer api.Network, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	return networks.create(ctx, s, p, func(*write) (string, networkBody, error) {
		return req.Name, networkBody{Description: *req.Description}, nil
	})
}

// UpdateNetwork replaces name and description of a network.
func (s *State) UpdateNetwork(ctx context.Context, p auth.Principal, id string, req api.NetworkRequest, ifMatch string) (api.Network, error) {
	req.ApplyDefaults()
	return networks.update(ctx, s, p, "", id, ifMatch, func(*write, object[networkBody]) (string, networkBody, error) {
		return req.Name, networkBody{Description: *req.Description}, faults(req.Validate())
	})
}

// networkAudit is a network in the audit event of its deletion, with all that goes
// with it.
type networkAudit struct {
	networkBody
	Name      string                  `json:"name"`
	Resources []audited[resourceBody] `json:"resources"`
	Routers   []routerBody            `json:"routers"`
}

// DeleteNetwork removes a network with its resources and routers. One with a
// resource that a policy names stays: the answer lists the policies.
func (s *State) DeleteNetwork(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.write(ctx, p, networks.deleting, func(w *write) error {
		row, had, err := networks.find(w, "", id, ifMatch)
		if err != nil {
			return err
		}
		before := networkAudit{networkBody: had.Body, Name: had.Name, Resources: []audited[resourceBody]{}, Routers: []routerBody{}}
		if before.Resources, err = w.removeResources(had); err != nil {
			return err
		}
		routers, err := networkRouters.parts(w, store.KindNetwork, id)
		if err != nil {
			return err
		}
		for _, row := range routers {
			router, err := networkRouters.read(row)
			if err != nil {
				return err
			}
			before.Routers = append(before.Routers, router.Body)
			if err := networkRouters.remove(w, row); err != nil {
				return err
			}
		}
		if err := networks.remove(w, row); err != nil {
			return err
		}
		return w.note("network.delete", id, had.Name, before, nil)
	}, func(*account) {})
}

// removeResources removes the resources of a network and returns what they were.
func (w *write) removeResources(network object[networkBody]) ([]audited[resourceBody], error) {
	rows, err := networkResources.parts(w, store.KindNetwork, network.ID)
	if err != nil {
		return nil, err
	}
	referrers, err := resourceReferrers(w.ctx, w.tx, w.account.ID, rows)
	if err != nil {
		return nil, err
	}
	if len(referrers) > 0 {
		return nil, problem.StillReferred("a resource of the network", network.Name, referrers...)
	}
	removed := make([]audited[resourceBody], 0, len(rows))
	for _, row := range rows {
		resource, err := networkResources.read(row)
		if err != nil {
			return nil, err
		}
		for _, group := range resource.Body.Groups {
			w.touched[group] = true
		}
		removed = append(removed, audited[resourceBody]{resource.Name, resource.Body})
		if err := networkResources.remove(w, row); err != nil {
			return nil, err
		}
	}
	return removed, nil
}

// resourceReferrers lists what names one of the resources, each field once.
func resourceReferrers(ctx context.Context, tx *store.Tx, accountID string, rows []store.Object) (all []problem.Referrer, err error) {
	for _, row := range rows {
		some, err := referrers(ctx, tx, accountID, store.KindNetworkResource, row.ID)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// ListNetworkReferrers lists what names a resource of a network: what a refused
// deletion tells.
func (s *State) ListNetworkReferrers(ctx context.Context, p auth.Principal, id string) ([]api.Referrer, error) {
	var resources []string
	err := s.reading(p, func(a *account) error {
		resources = a.resourcesOf.ids(id)
		return a.hasNetwork(id)
	})
	if err != nil {
		return nil, err
	}
	var items []api.Referrer
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.ObjectsByID(ctx, tx, p.AccountID, store.KindNetworkResource, resources)
		if err != nil {
			return err
		}
		list, err := resourceReferrers(ctx, tx, p.AccountID, rows)
		items = shownReferrers(list)
		return err
	})
	return items, asProblem(err)
}

func (a *account) hasNetwork(id string) error {
	if _, ok := a.networks.get(id); !ok {
		return problem.NotFound("network")
	}
	return nil
}

// hasNetwork is the same inside the transaction.
func (w *write) hasNetwork(id string) error {
	_, _, err := networks.find(w, "", id, "")
	return err
}
