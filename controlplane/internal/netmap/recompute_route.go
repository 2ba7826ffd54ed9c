package netmap

import (
	"cmp"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// A plainRoute is a destination as a list of names.
type plainRoute struct {
	key, id string
	told    api.CompiledRoute
	via     []plainVia
	// at holds the names of the ends of rules that are about the route.
	at []string
	// own says that it is a route of its own, with the groups that get it.
	own  bool
	gets []string
}

type plainVia struct {
	router     string
	peers      []string
	metric     int
	masquerade bool
}

// plainResource reports whether an end is a single resource.
func plainResource(end []string) bool {
	return len(end) == 1 && strings.HasPrefix(end[0], resourceName(""))
}

func (w *whole) addRoutes() {
	for _, r := range w.account.Resources {
		rt := plainRoute{key: resourceName(r.ID), at: []string{resourceName(r.ID)}}
		for _, group := range r.Groups {
			rt.at = append(rt.at, groupName(group))
		}
		for _, v := range w.account.Routers {
			if v.Network == r.Network {
				rt.via = append(rt.via, plainVia{v.ID, end(v.Groups, v.Peer), v.Metric, v.Masquerade})
			}
		}
		if len(rt.via) == 0 {
			continue
		}
		rt.told = toldOf(cmp.Or(r.Name, r.ID), w.cfg.opaque("n_", r.Network), r.Prefix, r.Domain)
		w.addRoute(rt)
	}
	for _, r := range w.account.Routes {
		rt := plainRoute{
			key: routeName(r.ID), at: end(r.AccessControlGroups, ""), own: true, gets: end(r.Groups, ""),
			via: []plainVia{{r.ID, end(r.PeerGroups, r.Peer), r.Metric, r.Masquerade}},
		}
		rt.told = toldOf(r.NetworkID, r.NetworkID, r.Prefix, r.Domains...)
		rt.told.KeepRoute, rt.told.SkipAutoApply = present(r.KeepRoute), present(r.SkipAutoApply)
		w.addRoute(rt)
	}
}

func (w *whole) addRoute(rt plainRoute) {
	rt.id = w.cfg.opaque("t_", rt.key)
	rt.told.Id = rt.id
	slices.SortFunc(rt.via, func(a, b plainVia) int { return cmp.Or(a.metric-b.metric, cmp.Compare(a.router, b.router)) })
	w.routes = append(w.routes, rt)
}

// tellRoutes tells a peer of the routes that it serves or uses.
func (w *whole) tellRoutes(p Peer, t *told) {
	if w.lacks(p.ID)&FeatureRoutes != 0 {
		return
	}
	serves := map[string]bool{}
	for _, rt := range w.routes {
		i := slices.IndexFunc(rt.via, func(v plainVia) bool { return w.holds(plainSet{union: v.peers}, p.ID) })
		if i < 0 {
			continue
		}
		serves[destinationOf(rt.told)] = true
		served := rt.told
		served.Role, served.Masquerade = api.CompiledRouteRoleServe, present(rt.via[i].masquerade)
		served.KeepRoute, served.SkipAutoApply = nil, nil
		t.routes = append(t.routes, served)
		w.tellForward(p, rt, t)
	}
	for _, rt := range w.routes {
		if !serves[destinationOf(rt.told)] {
			w.tellUse(p, rt, t)
		}
	}
}

// A plainCrossing is a rule about a route, seen from the end of peers.
type plainCrossing struct {
	plainRule
	back bool
	far  []string
}

// crossings lists the rules that are about a route in one direction.
func (w *whole) crossings(rt plainRoute, back bool) (list []plainCrossing) {
	if rt.own && back {
		return nil
	}
	if rt.own && len(rt.at) == 0 {
		open := plainRule{id: w.cfg.opaque("r_", rt.key), protocol: api.CompiledRuleProtocolAll, sources: rt.gets}
		return []plainCrossing{{open, false, rt.gets}}
	}
	for _, r := range w.rules {
		near, far := r.destinations, r.sources
		if back {
			near, far = far, near
		}
		meets := slices.ContainsFunc(near, func(name string) bool { return slices.Contains(rt.at, name) })
		if meets && !plainResource(far) {
			list = append(list, plainCrossing{r, back, far})
		}
	}
	return list
}

func (w *whole) tellUse(p Peer, rt plainRoute, t *told) {
	if rt.own && !w.holds(plainSet{union: rt.gets}, p.ID) {
		return
	}
	uses := rt.own
	for _, back := range []bool{false, true} {
		mine := slices.DeleteFunc(w.crossings(rt, back), func(c plainCrossing) bool {
			return !w.holds(plainSet{union: c.far}, p.ID) || !w.knows(p, c.plainRule)
		})
		accepted := slices.ContainsFunc(mine, func(c plainCrossing) bool { return c.shows() })
		if !accepted || slices.ContainsFunc(mine, func(c plainCrossing) bool { return c.hides() }) {
			continue
		}
		uses = true
		for _, c := range mine {
			direction := api.CompiledRuleDirectionOut
			if back {
				direction = api.CompiledRuleDirectionIn
			}
			t.rules = append(t.rules, w.routedRule(p, rt, c, direction, plainSet{union: c.far}))
		}
	}
	if !uses {
		return
	}
	used := rt.told
	used.Role = api.CompiledRouteRoleUse
	var routers []api.RouteRouter
	for _, v := range rt.via {
		set := plainSet{union: v.peers}
		t.sets[w.id(set)] = w.members(set)
		routers = append(routers, api.RouteRouter{Set: w.id(set), Metric: v.metric})
	}
	used.Routers = &routers
	t.routes = append(t.routes, used)
}

func (w *whole) tellForward(p Peer, rt plainRoute, t *told) {
	for _, back := range []bool{false, true} {
		crossings := w.crossings(rt, back)
		var hidden []string
		for _, c := range crossings {
			if c.hides() {
				hidden = append(hidden, c.far...)
			}
		}
		slices.Sort(hidden)
		hidden = slices.Compact(hidden)
		var shown []plainSet
		for _, shows := range []bool{true, false} {
			for _, c := range crossings {
				if c.shows() != shows || c.hides() || !w.knows(p, c.plainRule) {
					continue
				}
				set := opposite(c.plainRule, c.far, hidden, shown)
				if set == nil || !shows && len(shown) == 0 {
					continue
				}
				if shows && rt.own {
					set.within, set.bounded = []plainSet{{union: rt.gets}}, true
					if len(rt.at) == 0 {
						set = &plainSet{union: rt.gets}
					}
				}
				if shows {
					shown = append(shown, *set)
				}
				t.sets[w.id(*set)] = w.members(*set)
				t.rules = append(t.rules, w.routedRule(p, rt, c, api.CompiledRuleDirectionForward, *set))
			}
		}
	}
}

func (w *whole) routedRule(p Peer, rt plainRoute, c plainCrossing, direction api.CompiledRuleDirection, far plainSet) api.CompiledRule {
	form := ruleForm{direction, w.id(far), rt.id}
	end := api.CompiledRuleRouteDestination
	if c.back {
		form.source, form.destination, end = rt.id, w.id(far), api.CompiledRuleRouteSource
	}
	routed := w.compiled(p, c.plainRule, form)
	routed.Id, routed.Route = w.cfg.routedID(c.id, rt.id, c.back), &end
	return routed
}
