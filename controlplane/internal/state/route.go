package state

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// routeBody is what the store keeps of a route besides its name, which is network_id
// in the contract.
type routeBody struct {
	Description string   `json:"description"`
	Network     string   `json:"network,omitempty"` // either this or Domains
	Domains     []string `json:"domains,omitempty"`
	carrier
	Groups              []string `json:"groups"`
	AccessControlGroups []string `json:"access_control_groups,omitempty"`
	Metric              int      `json:"metric"`
	Masquerade          bool     `json:"masquerade"`
	Enabled             bool     `json:"enabled"`
	KeepRoute           bool     `json:"keep_route"`
	SkipAutoApply       bool     `json:"skip_auto_apply"`
}

// routes is the noun of what peers carry for others without the policies of resources.
var routes = &noun[routeBody, api.Route]{
	kind: store.KindRoute, title: "route",
	creating: api.PermissionRoutesCreate, changing: api.PermissionRoutesUpdate, deleting: api.PermissionRoutesDelete,
	in: func(a *account) *ordered[object[routeBody]] { return &a.routes },
	refs: func(b routeBody) []store.Ref {
		return slices.Concat(b.carrier.refs(), groupRefs("groups", b.Groups), groupRefs("access_control_groups", b.AccessControlGroups))
	},
	show:     func(_ *account, r object[routeBody]) api.Route { return showRoute(r) },
	compiled: (*account).compiledRoute,
	gone: func(_ *account, r object[routeBody]) []netmap.Change {
		return []netmap.Change{netmap.RouteRemove{ID: r.ID}}
	},
}

func (a *account) compiledRoute(r object[routeBody]) []netmap.Change {
	if !r.Body.Enabled || len(r.Body.Domains) > 0 && !a.resolves {
		return []netmap.Change{netmap.RouteRemove{ID: r.ID}}
	}
	prefix, _ := netip.ParsePrefix(r.Body.Network) // checked when it was written; not valid for domains
	return []netmap.Change{netmap.RoutePut{Route: netmap.Route{
		ID: r.ID, NetworkID: r.Name, Prefix: prefix, Domains: r.Body.Domains, Peer: r.Body.Peer, PeerGroups: r.Body.PeerGroups,
		Groups: r.Body.Groups, AccessControlGroups: r.Body.AccessControlGroups, Metric: r.Body.Metric, Masquerade: r.Body.Masquerade,
		KeepRoute: r.Body.KeepRoute, SkipAutoApply: r.Body.SkipAutoApply,
	}}}
}

func showRoute(r object[routeBody]) api.Route {
	shown := api.Route{
		Id: r.ID, NetworkId: r.Name, NetworkType: api.RouteNetworkTypeDomain, Description: r.Body.Description, Enabled: r.Body.Enabled,
		Groups: r.Body.Groups, Metric: r.Body.Metric, Masquerade: r.Body.Masquerade, KeepRoute: r.Body.KeepRoute,
		SkipAutoApply: r.Body.SkipAutoApply, Version: r.Version,
	}
	shown.Peer, shown.PeerGroups = r.Body.shown()
	if len(r.Body.Domains) > 0 {
		shown.Domains = &r.Body.Domains
	} else {
		shown.Network, shown.NetworkType = &r.Body.Network, api.RouteNetworkTypeIPv4
		if strings.Contains(r.Body.Network, ":") {
			shown.NetworkType = api.RouteNetworkTypeIPv6
		}
	}
	if len(r.Body.AccessControlGroups) > 0 {
		shown.AccessControlGroups = &r.Body.AccessControlGroups
	}
	return shown
}

// ListRoutes lists the routes.
func (s *State) ListRoutes(_ context.Context, p auth.Principal, params api.ListRoutesParams) ([]api.Route, string, error) {
	return routes.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[routeBody](params.NetworkId))
}

// GetRoute reads a route.
func (s *State) GetRoute(_ context.Context, p auth.Principal, id string) (api.Route, error) {
	return routes.get(s, p, "", id)
}

// CreateRoute creates a route. A peer or group that carries the destination in
// another route is a conflict.
func (s *State) CreateRoute(ctx context.Context, p auth.Principal, req api.RouteRequest) (answer api.Route, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	return routes.create(ctx, s, p, func(w *write) (string, routeBody, error) {
		body, err := w.routeBody("", req)
		return req.NetworkId, body, err
	})
}

// UpdateRoute replaces a route.
func (s *State) UpdateRoute(ctx context.Context, p auth.Principal, id string, req api.RouteRequest, ifMatch string) (api.Route, error) {
	req.ApplyDefaults()
	return routes.update(ctx, s, p, "", id, ifMatch, func(w *write, _ object[routeBody]) (string, routeBody, error) {
		if err := faults(req.Validate()); err != nil {
			return "", routeBody{}, err
		}
		body, err := w.routeBody(id, req)
		return req.NetworkId, body, err
	})
}

// DeleteRoute removes a route.
func (s *State) DeleteRoute(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return routes.delete(ctx, s, p, "", id, ifMatch, nil)
}

// routeBody turns a request into what is kept; id is empty for a new route.
func (w *write) routeBody(id string, req api.RouteRequest) (routeBody, error) {
	body := routeBody{
		Description: *req.Description, Metric: *req.Metric, Masquerade: *req.Masquerade, Enabled: *req.Enabled,
		KeepRoute: *req.KeepRoute, SkipAutoApply: *req.SkipAutoApply,
	}
	body.Network, _ = req.Network.Get()
	body.Domains, _ = req.Domains.Get()
	body.Peer, _ = req.Peer.Get()
	peerGroups, _ := req.PeerGroups.Get()
	accessGroups, _ := req.AccessControlGroups.Get()
	wrong, err := w.groupFields(
		groupField{field: "peer_groups", texts: peerGroups, into: &body.PeerGroups},
		groupField{field: "groups", texts: req.Groups, into: &body.Groups},
		groupField{field: "access_control_groups", texts: accessGroups, into: &body.AccessControlGroups},
	)
	if err != nil {
		return body, err
	}
	more, err := w.unknownPeer(body.Peer)
	if err != nil {
		return body, err
	}
	if err := faults(nil, append(wrong, more...)...); err != nil {
		return body, err
	}
	return body, w.freeDestination(id, body)
}

// freeDestination answers a conflict when the peer or one of the groups carries the
// destination in another route than id.
func (w *write) freeDestination(id string, body routeBody) error {
	var sharing []string
	for _, carried := range body.carrier.refs() {
		refs, err := store.RefsTo(w.ctx, w.tx, w.account.ID, carried.ToKind, carried.ToID)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			if ref.FromKind == store.KindRoute && ref.Field == carried.Field && ref.FromID != id {
				sharing = append(sharing, ref.FromID)
			}
		}
	}
	rows, err := store.ObjectsByID(w.ctx, w.tx, w.account.ID, store.KindRoute, sharing)
	if err != nil {
		return err
	}
	for _, row := range rows {
		other, err := routes.read(row)
		if err != nil {
			return err
		}
		if sameDestination(body, other.Body) {
			field := "network"
			if body.Network == "" {
				field = "domains"
			}
			return &problem.Problem{
				Kind:   problem.KindConflict,
				Detail: fmt.Sprintf("the route %q carries the same destination through the same peer or group already", other.Name),
				Errors: []problem.FieldError{problem.Field(field, "carried by the route %q (%s) already", other.Name, other.ID)},
			}
		}
	}
	return nil
}

func sameDestination(x, y routeBody) bool {
	return x.Network == y.Network && slices.Equal(slices.Sorted(slices.Values(x.Domains)), slices.Sorted(slices.Values(y.Domains)))
}
