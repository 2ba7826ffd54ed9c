package netmap

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A class is all peers that stand in the same bases and offer the same features. They share one view and one log; only self differs.
type class struct {
	key   string
	bases []*base // in the order of their names
	// lacks holds the features that the agents of the class do not offer.
	lacks Features
	// peers holds the ordinals of the class's own members.
	peers *roaring.Bitmap

	rules  map[string]*ruleView  // by rule id
	routes map[string]*routeView // by route id
	sets   []*set                // in the order of their ids
	// visible holds every member of sets.
	visible *roaring.Bitmap
	// plain says that no rule of the view depends on another.
	plain bool

	naming namingView

	// The digest of the view in three parts, routes with the rules; a peer's digest is their sum and its own self.
	ruleSum, setSum, peerSum mapstate.Digest
	// setsAt and rulesAt are the serials at which sets, and rules or routes, changed last.
	setsAt, rulesAt int64

	log classLog
	// work is what the batch that is being applied has to do here; empty between batches.
	work classWork
}

func (c *class) sum() mapstate.Digest {
	return c.ruleSum.Plus(c.setSum).Plus(c.peerSum).Plus(c.naming.sum)
}

// classBases returns the bases in which a peer stands, and which are its class. Unapproved peers stand in nothing.
func (e *Engine) classBases(p *peer) []*base {
	if !p.Approved {
		return nil
	}
	bases := make([]*base, 0, len(p.groups)+1)
	for b := range p.groups {
		bases = b.holding(append(bases, b), p.Ordinal)
	}
	if own := e.bases[peerName(p.ID)]; own != nil {
		bases = own.holding(append(bases, own), p.Ordinal)
	}
	// Single peers and parts make a class of their own only while a rule names them.
	bases = slices.DeleteFunc(bases, func(b *base) bool { return b.derived() && !b.named() })
	slices.SortFunc(bases, byName)
	return bases
}

func classKey(bases []*base, lacks Features) string {
	var key strings.Builder
	if lacks != 0 {
		fmt.Fprintf(&key, "!%d|", lacks)
	}
	for _, b := range bases {
		key.WriteString(b.name)
		key.WriteByte('|')
	}
	return key.String()
}

// A view is what a class is told: rules and routes, and the sets that they name.
type view struct {
	rules  map[string]*ruleView
	routes map[string]*routeView // nil when there are none
	sets   []*set
	plain  bool // each rule is told whatever the others say
}

// view returns what the class is told now.
func (c *class) view() view { return view{c.rules, c.routes, c.sets, c.plain} }

// standsIn reports whether the class stands in one of the bases.
func (c *class) standsIn(bases []*base) bool {
	return slices.ContainsFunc(bases, func(b *base) bool { _, stands := b.classes[c]; return stands })
}

// show makes v what the class is told.
func (c *class) show(v view) {
	c.rules, c.routes, c.sets, c.plain, c.visible = v.rules, v.routes, v.sets, v.plain, v.see()
	c.ruleSum, c.setSum = v.sums()
}

// A scope is what compiling one class looks at.
type scope struct {
	// out and in hold the rules at whose source and at whose destination the class stands.
	out, in map[*rule]struct{}
	// hiddenOut holds the destinations that drops hide from the class, hiddenIn the sources.
	hiddenOut, hiddenIn map[*base]struct{}
}

func scopeOf(bases []*base, lacks Features) scope {
	s := scope{out: map[*rule]struct{}{}, in: map[*rule]struct{}{}, hiddenOut: map[*base]struct{}{}, hiddenIn: map[*base]struct{}{}}
	add := func(into, rules map[*rule]struct{}) {
		for r := range rules {
			if lacks&FeatureTerms == 0 || !r.quiet() {
				into[r] = struct{}{}
			}
		}
	}
	for _, b := range bases {
		add(s.out, b.sources)
		add(s.in, b.destinations)
	}
	for r := range s.out {
		if r.hides() && !resourceEnd(r.destinations) {
			addAll(s.hiddenOut, r.destinations)
		}
	}
	for r := range s.in {
		if r.hides() && !resourceEnd(r.sources) {
			addAll(s.hiddenIn, r.sources)
		}
	}
	return s
}

func addAll(into map[*base]struct{}, bases []*base) {
	for _, b := range bases {
		into[b] = struct{}{}
	}
}

// compile makes the view of a class. It acquires sets for c.
func (e *Engine) compile(c *class) view {
	s := scopeOf(c.bases, c.lacks)
	v := view{rules: map[string]*ruleView{}, plain: true}
	// Drops that do not hide are told of the peers only that accepts of the same direction show, rules that judge nothing of
	// those that any accept shows.
	seenOut, seenIn := map[string]expression{}, map[string]expression{}
	opposite := func(r *rule, out bool) (expression, bool) {
		side, hidden, seen, ends := s.in, s.hiddenIn, seenIn, r.sources
		if out {
			side, hidden, seen, ends = s.out, s.hiddenOut, seenOut, r.destinations
		}
		if _, stands := side[r]; !stands || resourceEnd(ends) {
			return expression{}, false
		}
		switch {
		case r.quiet():
			return intersection(ends, both(seenOut, seenIn))
		case r.drop:
			return intersection(ends, seen)
		}
		x, ok := difference(ends, hidden)
		if ok {
			seen[x.key()] = x
		}
		return x, ok
	}
	tell := func(r *rule) {
		destination, out := opposite(r, true)
		source, in := opposite(r, false)
		if out || in {
			e.tell(c, &v, r, source, in, destination, out)
		}
	}
	var yielding []*rule
	for _, side := range []map[*rule]struct{}{s.out, s.in} {
		for r := range side {
			v.plain = v.plain && !r.yields()
			switch {
			case v.rules[r.id] != nil || r.hides():
			case r.yields():
				yielding = append(yielding, r)
			default:
				tell(r)
			}
		}
	}
	for _, r := range yielding {
		if v.rules[r.id] == nil {
			tell(r)
		}
	}
	e.routing(c, s, &v)
	v.plain = v.plain && len(v.routes) == 0
	slices.SortFunc(v.sets, func(a, b *set) int { return strings.Compare(a.id, b.id) })
	v.sets = slices.Compact(v.sets)
	return v
}

// both joins what accepts of the two directions show.
func both(out, in map[string]expression) map[string]expression {
	all := maps.Clone(out)
	maps.Copy(all, in)
	return all
}

// tell adds a rule to the view with the set of each end at which the class does not stand itself.
func (e *Engine) tell(c *class, v *view, r *rule, source expression, in bool, destination expression, out bool) {
	form := ruleForm{direction: api.CompiledRuleDirectionBoth}
	if in {
		s := e.acquire(source, c)
		v.sets, form.source = append(v.sets, s), s.id
	} else {
		form.direction, form.source = api.CompiledRuleDirectionOut, r.sourceID
	}
	if out {
		s := e.acquire(destination, c)
		v.sets, form.destination = append(v.sets, s), s.id
	} else {
		form.direction, form.destination = api.CompiledRuleDirectionIn, r.destinationID
	}
	v.rules[r.id] = r.view(form).told(c.lacks)
}

// see returns every peer of the view's sets.
func (v view) see() *roaring.Bitmap {
	all := roaring.New()
	for _, s := range v.sets {
		all.Or(s.members)
	}
	return all
}

// newClass compiles a class that had no members before.
func (e *Engine) newClass(key string, bases []*base, lacks Features) *class {
	c := &class{key: key, bases: bases, lacks: lacks, peers: roaring.New(), log: classLog{floor: e.serial}, setsAt: e.serial, rulesAt: e.serial}
	for _, b := range bases {
		b.classes[c] = struct{}{}
	}
	c.show(e.compile(c))
	c.naming = namingOf(c)
	for ordinals := c.visible.Iterator(); ordinals.HasNext(); {
		c.peerSum = c.peerSum.Plus(e.ordinals[ordinals.Next()].forms.of(lacks).hash)
	}
	e.classes[key] = c
	return c
}

func (v view) sums() (rules, sets mapstate.Digest) {
	for _, r := range v.rules {
		rules = rules.Plus(r.hash)
	}
	for _, r := range v.routes {
		rules = rules.Plus(r.hash)
	}
	for _, s := range v.sets {
		sets = sets.Plus(s.sum)
	}
	return rules, sets
}

// drop forgets a class without members. Its log stays with the peers that left it.
func (e *Engine) drop(c *class) {
	delete(e.classes, c.key)
	for _, b := range c.bases {
		delete(b.classes, c)
	}
	for _, s := range c.sets {
		e.release(s, c)
	}
	for _, b := range c.bases {
		e.forget(b)
	}
	c.rules, c.routes, c.sets, c.visible, c.bases, c.naming = nil, nil, nil, nil, nil, namingView{}
}
