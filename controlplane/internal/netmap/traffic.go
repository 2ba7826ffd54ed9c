package netmap

import (
	"maps"
	"slices"

	"github.com/wattlenet/wattle/generated/api"
)

// A crossing is a rule that is about a route: peers open traffic to it, or with back it to peers.
type crossing struct {
	rule *rule
	back bool
}

// far returns the end of peers, which is empty when the rule is between two resources.
func (x crossing) far() []*base {
	far := x.rule.sources
	if x.back {
		far = x.rule.destinations
	}
	if resourceEnd(far) {
		return nil
	}
	return far
}

// A traffic is what the rules that are about a route mean. It is the same for all classes.
type traffic struct {
	// forward holds the rules of the routers.
	forward []forwarded
	// used holds the rules of the users, made when a class first needs one.
	used map[crossing]*ruleView
}

// A forwarded rule permits or drops traffic between the peers of a set and a route.
type forwarded struct {
	view  *ruleView
	peers expression
}

// crossings lists the rules that are about the route in one direction, in the order of their ids.
func (rt *route) crossings(back bool) []crossing {
	if back && rt.gets != nil {
		return nil // a route of its own opens nothing toward peers
	}
	met := map[crossing]struct{}{}
	for _, b := range rt.at {
		rules := b.destinations
		if back {
			rules = b.sources
		}
		for r := range rules {
			met[crossing{r, back}] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(met), func(a, b crossing) int { return compareText(a.rule.id, b.rule.id) })
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// trafficOf returns what the rules mean for the route.
func (e *Engine) trafficOf(rt *route) *traffic {
	if rt.traffic != nil {
		return rt.traffic
	}
	t := &traffic{used: map[crossing]*ruleView{}}
	for _, back := range []bool{false, true} {
		t.forward = append(t.forward, e.forward(rt, rt.crossings(back))...)
	}
	if rt.open != nil {
		peers := expression{union: rt.gets}
		t.forward = append(t.forward, forwarded{e.forwardView(rt, crossing{rule: rt.open}, peers), peers})
	}
	rt.traffic = t
	return t
}

// forward compiles the crossings of one direction for the routers: accepts without the peers that drops hide, other
// drops and rules that judge nothing for the peers only that accepts let through.
func (e *Engine) forward(rt *route, crossings []crossing) []forwarded {
	hidden := map[*base]struct{}{}
	for _, x := range crossings {
		if x.rule.hides() {
			addAll(hidden, x.far())
		}
	}
	var list []forwarded
	seen := map[string]expression{}
	add := func(x crossing, peers expression) {
		list = append(list, forwarded{e.forwardView(rt, x, peers), peers})
	}
	for _, x := range crossings {
		if x.rule.yields() {
			continue
		}
		peers, ok := difference(x.far(), hidden)
		if !ok {
			continue
		}
		if rt.gets != nil {
			peers.within, peers.bounded = []expression{{union: rt.gets}}, true
		}
		seen[peers.key()] = peers
		add(x, peers)
	}
	for _, x := range crossings {
		if !x.rule.yields() || x.rule.hides() {
			continue
		}
		if peers, ok := intersection(x.far(), seen); ok {
			add(x, peers)
		}
	}
	return list
}

func (e *Engine) forwardView(rt *route, x crossing, peers expression) *ruleView {
	return e.routedView(rt, x, api.CompiledRuleDirectionForward, e.cfg.opaque("s_", peers.key()))
}

// usedView returns a rule as the users of a route have it.
func (e *Engine) usedView(rt *route, x crossing) *ruleView {
	t := e.trafficOf(rt)
	if t.used[x] == nil {
		if x.back {
			t.used[x] = e.routedView(rt, x, api.CompiledRuleDirectionIn, x.rule.destinationID)
		} else {
			t.used[x] = e.routedView(rt, x, api.CompiledRuleDirectionOut, x.rule.sourceID)
		}
	}
	return t.used[x]
}

// routedView is a rule between the peers of a set and a route.
func (e *Engine) routedView(rt *route, x crossing, direction api.CompiledRuleDirection, set string) *ruleView {
	form := ruleForm{direction: direction, source: set, destination: rt.id}
	end := api.CompiledRuleRouteDestination
	if x.back {
		form.source, form.destination, end = rt.id, set, api.CompiledRuleRouteSource
	}
	c := x.rule.compiled(form)
	c.Id, c.Route = e.cfg.routedID(x.rule.id, rt.id, x.back), &end
	return x.rule.viewOf(c)
}

// routedID is the id of what a rule means for one route in one direction.
func (c Config) routedID(rule, route string, back bool) string {
	if back {
		return c.opaque("r_", rule+"<"+route)
	}
	return c.opaque("r_", rule+">"+route)
}

// routing adds to the view of a class the routes that it serves and those that it uses, with the rules of their traffic.
func (e *Engine) routing(c *class, s scope, v *view) {
	if len(e.routed) == 0 || c.lacks&FeatureRoutes != 0 {
		return
	}
	v.routes = map[string]*routeView{}
	// Who leads to a destination does not go there through another router.
	serves := map[string]bool{}
	for _, b := range c.bases {
		for rt := range b.serves {
			serves[rt.destination] = true
			v.routes[rt.id] = rt.servedBy(c)
			for _, f := range e.trafficOf(rt).forward {
				told := f.view.told(c.lacks)
				if told == nil {
					continue
				}
				v.rules[told.Id] = told
				v.sets = append(v.sets, e.acquire(f.peers, c))
			}
		}
	}
	for rt, u := range usesOf(c, s) {
		if serves[rt.destination] {
			continue
		}
		shown := rt.gets != nil
		for _, x := range u.told() {
			told := e.usedView(rt, x).told(c.lacks)
			v.rules[told.Id], shown = told, true
		}
		if !shown {
			continue
		}
		v.routes[rt.id] = rt.use
		for _, router := range rt.via {
			v.sets = append(v.sets, e.acquire(expression{union: router.peers}, c))
		}
	}
}

// A use is what the rules at whose other end a class stands say of one route, by direction: 0 to it, 1 back.
type use struct {
	accepts, yielding [2]map[crossing]struct{}
	hidden            [2]bool
}

// usesOf finds the routes that rules show to the class, or that it gets.
func usesOf(c *class, s scope) map[*route]*use {
	uses := map[*route]*use{}
	of := func(rt *route) *use {
		if uses[rt] == nil {
			uses[rt] = &use{}
		}
		return uses[rt]
	}
	for _, b := range c.bases {
		for rt := range b.gets {
			u := of(rt)
			if rt.open != nil {
				u.note(crossing{rule: rt.open})
			}
		}
	}
	for r := range s.out {
		for _, b := range r.destinations {
			for rt := range b.routes {
				if rt.gets == nil || uses[rt] != nil {
					of(rt).note(crossing{rule: r})
				}
			}
		}
	}
	for r := range s.in {
		for _, b := range r.sources {
			for rt := range b.routes {
				if rt.gets == nil {
					of(rt).note(crossing{rule: r, back: true})
				}
			}
		}
	}
	return uses
}

func (u *use) note(x crossing) {
	side := 0
	if x.back {
		side = 1
	}
	kind := &u.accepts[side]
	switch {
	case x.rule.hides():
		u.hidden[side] = true
		return
	case x.rule.yields():
		kind = &u.yielding[side]
	}
	if *kind == nil {
		*kind = map[crossing]struct{}{}
	}
	(*kind)[x] = struct{}{}
}

// told lists what the class is told: nothing of a direction that is hidden or in which nothing is accepted.
func (u *use) told() (list []crossing) {
	for side := range 2 {
		if u.hidden[side] || len(u.accepts[side]) == 0 {
			continue
		}
		list = slices.AppendSeq(list, maps.Keys(u.accepts[side]))
		list = slices.AppendSeq(list, maps.Keys(u.yielding[side]))
	}
	return list
}
