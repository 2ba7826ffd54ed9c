package state

import (
	"context"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// routerBody is what the store keeps of a network router; it has no name.
type routerBody struct {
	Network string `json:"network_id"`
	carrier
	Metric     int  `json:"metric"`
	Masquerade bool `json:"masquerade"`
	Enabled    bool `json:"enabled"`
}

// A carrier is who carries traffic for others: one peer, or every peer of groups.
type carrier struct {
	Peer       string   `json:"peer,omitempty"`
	PeerGroups []string `json:"peer_groups,omitempty"`
}

func (c carrier) refs() []store.Ref {
	refs := groupRefs("peer_groups", c.PeerGroups)
	if c.Peer != "" {
		refs = append(refs, store.Ref{Field: "peer", ToKind: store.KindPeer, ToID: c.Peer})
	}
	return refs
}

// shown is the carrier in an answer: the side that is not used is absent.
func (c carrier) shown() (peer *string, groups *[]string) {
	if c.Peer != "" {
		return &c.Peer, nil
	}
	return nil, &c.PeerGroups
}

// networkRouters is the noun of the peers that lead to the resources of a network.
var networkRouters = &noun[routerBody, api.NetworkRouter]{
	kind: store.KindNetworkRouter, title: "network router",
	creating: api.PermissionNetworksCreate, changing: api.PermissionNetworksUpdate, deleting: api.PermissionNetworksDelete,
	in: func(a *account) *ordered[object[routerBody]] { return &a.routers },
	refs: func(b routerBody) []store.Ref {
		return append(b.carrier.refs(), store.Ref{Field: parentField, ToKind: store.KindNetwork, ToID: b.Network})
	},
	indexed: func(a *account, r object[routerBody]) []entry {
		return []entry{{a.routersOf, r.Body.Network, r.Seq}}
	},
	show: func(_ *account, r object[routerBody]) api.NetworkRouter {
		peer, groups := r.Body.shown()
		return api.NetworkRouter{
			Id: r.ID, NetworkId: r.Body.Network, Peer: peer, PeerGroups: groups, Metric: r.Body.Metric, Masquerade: r.Body.Masquerade,
			Enabled: r.Body.Enabled, Version: r.Version,
		}
	},
	compiled: func(_ *account, r object[routerBody]) []netmap.Change {
		if !r.Body.Enabled {
			return []netmap.Change{netmap.RouterRemove{ID: r.ID}}
		}
		return []netmap.Change{netmap.RouterPut{Router: netmap.Router{
			ID: r.ID, Network: r.Body.Network, Peer: r.Body.Peer, Groups: r.Body.PeerGroups, Metric: r.Body.Metric, Masquerade: r.Body.Masquerade,
		}}}
	},
	gone: func(_ *account, r object[routerBody]) []netmap.Change {
		return []netmap.Change{netmap.RouterRemove{ID: r.ID}}
	},
}

// ListAllNetworkRouters lists the routers of every network.
func (s *State) ListAllNetworkRouters(_ context.Context, p auth.Principal, params api.ListAllNetworkRoutersParams) ([]api.NetworkRouter, string, error) {
	return networkRouters.list(s, p, page{params.Ids, params.Limit, params.Cursor}, any1)
}

// ListNetworkRouters lists the routers of a network.
func (s *State) ListNetworkRouters(_ context.Context, p auth.Principal, networkID string, params api.ListNetworkRoutersParams) ([]api.NetworkRouter, string, error) {
	if err := s.reading(p, func(a *account) error { return a.hasNetwork(networkID) }); err != nil {
		return nil, "", err
	}
	return networkRouters.list(s, p, page{params.Ids, params.Limit, params.Cursor}, func(r object[routerBody]) bool {
		return r.Body.Network == networkID
	})
}

// GetNetworkRouter reads a router of a network.
func (s *State) GetNetworkRouter(_ context.Context, p auth.Principal, networkID, id string) (api.NetworkRouter, error) {
	return networkRouters.get(s, p, networkID, id)
}

// CreateNetworkRouter makes a peer or the peers of groups a router.
func (s *State) CreateNetworkRouter(ctx context.Context, p auth.Principal, networkID string, req api.NetworkRouterRequest) (answer api.NetworkRouter, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	return networkRouters.create(ctx, s, p, func(w *write) (string, routerBody, error) {
		if err := w.hasNetwork(networkID); err != nil {
			return "", routerBody{}, err
		}
		body, err := w.routerBody(networkID, req)
		return "", body, err
	})
}

// UpdateNetworkRouter replaces a router.
func (s *State) UpdateNetworkRouter(ctx context.Context, p auth.Principal, networkID, id string, req api.NetworkRouterRequest, ifMatch string) (api.NetworkRouter, error) {
	req.ApplyDefaults()
	return networkRouters.update(ctx, s, p, networkID, id, ifMatch, func(w *write, _ object[routerBody]) (string, routerBody, error) {
		if err := faults(req.Validate()); err != nil {
			return "", routerBody{}, err
		}
		body, err := w.routerBody(networkID, req)
		return "", body, err
	})
}

// DeleteNetworkRouter removes a router.
func (s *State) DeleteNetworkRouter(ctx context.Context, p auth.Principal, networkID, id, ifMatch string) error {
	return networkRouters.delete(ctx, s, p, networkID, id, ifMatch, nil)
}

func (w *write) routerBody(networkID string, req api.NetworkRouterRequest) (routerBody, error) {
	body := routerBody{Network: networkID, Metric: *req.Metric, Masquerade: *req.Masquerade, Enabled: *req.Enabled}
	body.Peer, _ = req.Peer.Get()
	peerGroups, _ := req.PeerGroups.Get()
	wrong, err := w.groupFields(groupField{field: "peer_groups", texts: peerGroups, into: &body.PeerGroups})
	if err != nil {
		return body, err
	}
	more, err := w.unknownPeer(body.Peer)
	if err != nil {
		return body, err
	}
	return body, faults(nil, append(wrong, more...)...)
}

// unknownPeer is the fault of a carrier that is no peer; none for "".
func (w *write) unknownPeer(id string) ([]problem.FieldError, error) {
	if id == "" {
		return nil, nil
	}
	known, err := store.KnownPeers(w.ctx, w.tx, w.account.ID, []string{id})
	if err != nil || known[id] {
		return nil, err
	}
	return []problem.FieldError{problem.Field("peer", "unknown peer id %q", id)}, nil
}
