package netmap

import (
	"slices"
	"strings"
)

// A batch collects what the changes of one write touched, then works out who must hear of it.
//
//	changes ──> bases, rules, entries ──> sets patched ──┐
//	                │                                     ├──> classes touched ──> one entry each
//	                ├──> classes whose rules changed ─────┘
//	                └──> peers that stand in other bases ──> moves between classes ──> a turn each
type batch struct {
	e *Engine

	// shifted holds, by base, the ordinals whose membership may have changed.
	shifted map[*base][]uint32
	// entries holds, by ordinal, the entry before, for peers that changed, came or went.
	entries map[uint32]forms
	// selves holds the peers whose self changed.
	selves map[*peer]struct{}
	// regroup holds the peers that may stand in another class now.
	regroup map[*peer]struct{}
	// ruled holds the bases at the ends of rules that came or went, but for those that came alone, which are in came;
	// doubtful is what may be forgotten at the end.
	ruled    map[*base]struct{}
	came     []*rule
	doubtful map[*base]struct{}
	// rerouted holds the keys of the routes that may be others now; nil when there are none.
	rerouted map[string]struct{}

	// patched and touched hold the sets and classes with a patch or work of this batch; masked counts the sets that have
	// a bit in the masks of the classes.
	patched  []*set
	touched  []*class
	masked   int
	single   *single
	upserts  map[upsertKey]*op
	removals map[uint32]*op
	puts     map[*set]*op
	update   *Update

	// naming is what the batch does to the DNS, nil for nothing; named holds the ops of it that were encoded.
	naming *namingWork
	named  map[opKey]*op
}

type upsertKey struct {
	n            uint32
	fresh, plain bool
}

// apply runs a batch. The caller holds the lock.
func (e *Engine) apply(serial int64, changes []Change) (*Update, error) {
	if err := e.check(changes); err != nil {
		return nil, err
	}
	e.serial = serial
	b := &batch{
		e: e, shifted: map[*base][]uint32{}, entries: map[uint32]forms{}, selves: map[*peer]struct{}{},
		regroup: map[*peer]struct{}{}, ruled: map[*base]struct{}{}, doubtful: map[*base]struct{}{},
		upserts: map[upsertKey]*op{}, puts: map[*set]*op{}, update: &Update{Serial: serial, e: e},
	}
	for _, c := range changes {
		b.apply(c)
	}
	b.setRoutes()
	b.patchSets()
	b.touchEntries()
	b.touchRules()
	b.touchNaming()
	b.single = b.singleOf()
	b.update.logged = make([]*class, 0, len(b.touched))
	for _, c := range b.touched {
		b.advance(c)
	}
	b.movePeers()
	b.tellSelves()
	for base := range b.doubtful {
		e.forget(base)
	}
	for _, s := range b.patched {
		s.patch = nil
	}
	for _, c := range b.touched {
		c.work.clear()
	}
	e.history.add(serial, b.update.logged)
	return b.update, nil
}

func (b *batch) apply(c Change) {
	switch c := c.(type) {
	case PeerPut:
		b.putPeer(c.Peer)
	case PeerRemove:
		b.removePeer(c.ID)
	case GroupPut:
		b.putGroup(c.ID, c.Members)
	case GroupRemove:
		b.removeGroup(c.ID)
	case MembersAdd:
		for _, id := range c.Peers {
			b.join(b.e.base(groupName(c.Group)), b.e.peers[id])
		}
	case MembersRemove:
		for _, id := range c.Peers {
			if p := b.e.peers[id]; p != nil {
				b.leave(b.e.base(groupName(c.Group)), p)
			}
		}
	case PolicyPut:
		b.setRules(c.Policy.ID, b.e.rulesOf(c.Policy))
	case PolicyRemove:
		b.setRules(c.ID, nil)
	case SettingsPut:
		b.putSettings(c.Settings)
	case CheckPut:
		b.putCheck(c.Check)
	case CheckRemove:
		b.removeCheck(c.ID)
	case PostureBits:
		b.putPosture(c)
	case ResourcePut:
		b.putResource(c.Resource)
	case ResourceRemove:
		b.removeResource(c.ID)
	case RouterPut:
		b.putRouter(c.Router)
	case RouterRemove:
		b.removeRouter(c.ID)
	case RoutePut:
		b.putRoute(c.Route)
	case RouteRemove:
		b.removeRoute(c.ID)
	default:
		b.applyNaming(c)
	}
}

func (b *batch) putPeer(want Peer) {
	e, p := b.e, b.e.peers[want.ID]
	if p == nil {
		p = &peer{groups: map[*base]struct{}{}, floor: e.serial}
		p.ID, p.Ordinal = want.ID, want.Ordinal
		e.peers[want.ID], e.ordinals[want.Ordinal] = p, p
		if own := e.bases[peerName(want.ID)]; own != nil {
			own.members.Add(want.Ordinal)
			b.shift(own, want.Ordinal)
		}
		b.noteEntry(want.Ordinal, forms{})
		b.regroup[p] = struct{}{}
		p.Approved = !want.Approved // so that approval below is a change
	}
	if present := formsOf(want); present.whole.hash != p.forms.whole.hash {
		b.noteEntry(want.Ordinal, p.forms)
		p.forms = present
	}
	approvalChanged := want.Approved != p.Approved
	p.Peer = want
	b.selves[p] = struct{}{}
	if !approvalChanged {
		return
	}
	if want.Approved {
		e.approved.Add(want.Ordinal)
	} else {
		e.approved.Remove(want.Ordinal)
	}
	b.regroup[p] = struct{}{}
	for _, base := range e.standing(p) {
		b.shift(base, want.Ordinal)
	}
}

// standing returns every base that holds the peer.
func (e *Engine) standing(p *peer) []*base {
	bases := make([]*base, 0, len(p.groups)+1)
	for base := range p.groups {
		bases = base.holding(append(bases, base), p.Ordinal)
	}
	if own := e.bases[peerName(p.ID)]; own != nil {
		bases = own.holding(append(bases, own), p.Ordinal)
	}
	return bases
}

// noteEntry keeps the entry as it was before the batch; only the first note counts.
func (b *batch) noteEntry(n uint32, before forms) {
	if _, noted := b.entries[n]; !noted {
		b.entries[n] = before
	}
}

func (b *batch) shift(base *base, n uint32) { b.shifted[base] = append(b.shifted[base], n) }

func (b *batch) removePeer(id string) {
	e, p := b.e, b.e.peers[id]
	if p == nil {
		return
	}
	for _, base := range e.standing(p) {
		base.members.Remove(p.Ordinal)
		b.shift(base, p.Ordinal)
	}
	e.forgetPosture(p.Ordinal)
	b.noteEntry(p.Ordinal, p.forms)
	e.approved.Remove(p.Ordinal)
	delete(e.peers, id)
	delete(e.ordinals, p.Ordinal)
	delete(b.selves, p)
	if p.class != nil {
		p.class.peers.Remove(p.Ordinal)
		b.update.removed = append(b.update.removed, id)
		b.touch(p.class)
	}
	delete(b.regroup, p)
	b.update.Revokes = true
}

func (b *batch) putGroup(id string, members []string) {
	e := b.e
	e.groups[groupName(id)] = true
	base := e.base(groupName(id))
	keep := make(map[uint32]struct{}, len(members))
	for _, id := range members {
		p := e.peers[id]
		keep[p.Ordinal] = struct{}{}
		b.join(base, p)
	}
	for _, n := range base.members.ToArray() {
		if _, stays := keep[n]; !stays {
			b.leave(base, e.ordinals[n])
		}
	}
}

func (b *batch) removeGroup(id string) {
	e := b.e
	base := e.bases[groupName(id)]
	if base == nil {
		return
	}
	delete(e.groups, base.name)
	for _, n := range base.members.ToArray() {
		b.leave(base, e.ordinals[n])
	}
	b.doubtful[base] = struct{}{}
}

func (b *batch) join(base *base, p *peer) {
	if !base.members.CheckedAdd(p.Ordinal) {
		return
	}
	p.groups[base] = struct{}{}
	b.shift(base, p.Ordinal)
	b.regroup[p] = struct{}{}
	b.resift(base, p)
	if base.unmanaged {
		b.selves[p] = struct{}{}
	}
}

func (b *batch) leave(base *base, p *peer) {
	if !base.members.CheckedRemove(p.Ordinal) {
		return
	}
	delete(p.groups, base)
	b.shift(base, p.Ordinal)
	b.regroup[p] = struct{}{}
	b.resift(base, p)
	if base.unmanaged {
		b.selves[p] = struct{}{}
	}
}

// setRules replaces the rules of a policy and leaves those alone that stay the same.
func (b *batch) setRules(policy string, want []*rule) {
	e := b.e
	before := e.policies[policy]
	kept := make([]*rule, 0, len(want))
	for _, r := range want {
		i := slices.IndexFunc(before, func(o *rule) bool { return o.id == r.id })
		if i >= 0 && before[i].equal(r) {
			kept = append(kept, before[i])
			continue
		}
		kept = append(kept, r)
		r.link()
		if r.alone() {
			b.came = append(b.came, r)
			continue
		}
		b.noteRule(r)
	}
	for _, r := range before {
		if !slices.Contains(kept, r) {
			r.unlink()
			b.noteRule(r)
		}
	}
	for _, r := range want {
		b.noteBases(b.doubtful, r)
	}
	if len(kept) == 0 {
		delete(e.policies, policy)
		return
	}
	e.policies[policy] = kept
}

func (b *batch) noteRule(r *rule) {
	b.noteBases(b.ruled, r)
	b.noteBases(b.doubtful, r)
	for _, ends := range [][]*base{r.sources, r.destinations} {
		for _, end := range ends {
			for rt := range end.routes {
				b.noteTraffic(rt)
			}
		}
	}
}

func (b *batch) noteBases(into map[*base]struct{}, r *rule) {
	addAll(into, r.sources)
	addAll(into, r.destinations)
}

func (b *batch) putSettings(s Settings) {
	if s == b.e.settings {
		return
	}
	b.e.settings = s
	for _, p := range b.e.peers {
		b.selves[p] = struct{}{}
	}
}

// patchSets brings every set up to date that reads a base with new or lost members.
func (b *batch) patchSets() {
	for base, ordinals := range b.shifted {
		for s := range base.sets {
			if s.patch == nil {
				s.patch = &patch{}
				b.patched = append(b.patched, s)
			}
			for _, n := range ordinals {
				s.refresh(b.e, n)
			}
		}
	}
	// The order of a delta, so that lists of their ops need no sorting.
	slices.SortFunc(b.patched, func(x, y *set) int { return strings.Compare(x.id, y.id) })
	for _, s := range b.patched {
		if len(s.patch.added)+len(s.patch.removed) == 0 {
			continue
		}
		s.finish()
		var bit uint64
		if b.masked < maskBits {
			bit = 1 << b.masked
		}
		b.masked++
		for c := range s.classes {
			w := b.touch(c)
			w.mask |= bit
			w.patched = append(w.patched, s)
		}
	}
}

// touchEntries finds the classes that see a peer whose entry changed.
func (b *batch) touchEntries() {
	for n, before := range b.entries {
		p := b.e.ordinals[n]
		if p == nil || p.forms.whole.hash == before.whole.hash || before.whole.raw == nil {
			continue // nobody has an entry of it, or those who have see its sets patched
		}
		for _, base := range b.e.standing(p) {
			for s := range base.sets {
				if !s.members.Contains(n) {
					continue
				}
				s.chunks[n>>chunkBits] = b.e.serial
				for c := range s.classes {
					w := b.touch(c)
					if last := len(w.entries) - 1; last < 0 || w.entries[last] != n {
						w.entries = append(w.entries, n)
					}
				}
			}
		}
	}
}

// touchRules finds the classes to compile again or to tell of a rule more, and the peers that stand in a class of their
// own because of a rule.
func (b *batch) touchRules() {
	for base := range b.ruled {
		for c := range base.classes {
			b.touch(c).recompile = true
		}
		b.regroupFor(base)
	}
	for _, r := range b.came {
		for _, base := range slices.Concat(r.sources, r.destinations) {
			for c := range base.classes {
				w := b.touch(c)
				w.extend = true
				w.recompile = w.recompile || !c.plain
			}
			b.regroupFor(base)
		}
	}
}

// regroupFor has the members of a base looked at that a rule began or ceased to name, where that makes a class.
func (b *batch) regroupFor(base *base) {
	if !base.derived() {
		return
	}
	if base.whole != nil {
		b.ask(base)
	}
	for _, n := range base.members.ToArray() {
		b.regroup[b.e.ordinals[n]] = struct{}{}
	}
}
