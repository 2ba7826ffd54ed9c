package netmap

import (
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

// An Account is the desired state of a whole account.
type Account struct {
	Peers []Peer
	// Groups holds the ids of the members of each group by its id.
	Groups   map[string][]string
	Policies []Policy
	Checks   []Check
	// Passing holds the ids of the peers that meet each posture check, by its id.
	Passing  map[string][]string
	Settings Settings
	// Resources and Routers make networks; Routes are those of their own.
	Resources []Resource
	Routers   []Router
	Routes    []Route
	// Zones, Records and Nameservers are the DNS; a peer in one of the groups Unmanaged gets nothing of it.
	Zones       []Zone
	Records     []Record
	Nameservers []Nameserver
	Unmanaged   []string
	// Offers holds the features of the agents that told; all others have every feature.
	Offers map[string]Features
}

// Compile computes the map of every peer from nothing, one peer after the other, by their ids. It is the plain meaning
// of an account, kept apart from the engine: the engine must always give the same maps.
func Compile(cfg Config, serial int64, account Account) (map[string]*mapstate.Map, error) {
	whole := newWhole(cfg, account)
	all := make(map[string]*mapstate.Map, len(account.Peers))
	for _, p := range account.Peers {
		m, err := whole.mapOf(p, serial)
		if err != nil {
			return nil, err
		}
		all[p.ID] = m
	}
	return all, nil
}

// CompileVerdict returns the rules of a whole account for the matcher: all directions of all rules with both ends.
func CompileVerdict(cfg Config, account Account) verdict.Rules {
	whole := newWhole(cfg, account)
	var rules []verdict.Rule
	for _, r := range whole.rules {
		source, destination := whole.members(plainSet{union: r.sources}), whole.members(plainSet{union: r.destinations})
		protocol, ok := verdict.ParseProtocol(string(r.protocol))
		if !ok || r.phase == PhasePending {
			continue
		}
		compiled := verdict.Rule{ID: r.id, Source: source, Destination: destination, Drop: r.drop, Monitor: r.monitor, Protocol: protocol}
		for _, ports := range r.ports {
			compiled.Ports = append(compiled.Ports, verdict.PortRange{First: uint16(ports.Start), Last: uint16(ports.End)})
		}
		rules = append(rules, compiled)
	}
	return verdict.New(rules)
}

// A whole is an account as lists of names.
type whole struct {
	cfg     Config
	account Account
	byN     map[uint32]Peer
	// stands holds, by peer id, the names of the bases of every approved peer.
	stands map[string]map[string]bool
	rules  []plainRule
	routes []plainRoute
}

type plainRule struct {
	id                    string
	sources, destinations []string
	drop, monitor         bool
	term                  verdict.Term
	phase                 Phase
	protocol              api.CompiledRuleProtocol
	ports                 []api.PortRange
}

// judges is false for rules that monitor or whose time has not come.
func (r plainRule) judges() bool { return !r.monitor && r.phase == PhaseActive }

// shows reports whether the rule may make peers visible to each other, hides whether it keeps them from it.
func (r plainRule) shows() bool { return r.judges() && !r.drop }

func (r plainRule) hides() bool {
	return r.judges() && r.drop && r.protocol == api.CompiledRuleProtocolAll
}

// A plainSet is an expression over names.
type plainSet struct {
	union, minus []string
	within       []plainSet
	bounded      bool
}

func newWhole(cfg Config, account Account) *whole {
	w := &whole{cfg: cfg, account: account, byN: map[uint32]Peer{}, stands: map[string]map[string]bool{}}
	for _, p := range account.Peers {
		w.byN[p.Ordinal] = p
		if p.Approved {
			w.stands[p.ID] = map[string]bool{peerName(p.ID): true}
		}
	}
	for group, members := range account.Groups {
		for _, id := range members {
			if stands := w.stands[id]; stands != nil {
				stands[groupName(group)] = true
			}
		}
	}
	for _, p := range account.Policies {
		for _, d := range directions(p) {
			protocol, ports := protocolOf(d.rule)
			w.rules = append(w.rules, plainRule{cfg.opaque("r_", d.key), d.sources, d.destinations, d.rule.Drop, d.rule.Monitor, d.rule.Term, d.rule.Phase, protocol, ports})
		}
	}
	w.addRoutes()
	return w
}

func (s plainSet) key() string {
	var within []string
	for _, x := range s.within {
		within = append(within, x.key())
	}
	slices.Sort(within)
	return expressionKey(s.union, s.minus, within)
}

func (w *whole) holds(s plainSet, id string) bool {
	in := func(name string) bool { return w.in(name, id) }
	return slices.ContainsFunc(s.union, in) && !slices.ContainsFunc(s.minus, in) &&
		(!s.bounded || slices.ContainsFunc(s.within, func(x plainSet) bool { return w.holds(x, id) }))
}

// in reports whether a peer stands in a base, and meets the posture checks that the name of a part tells.
func (w *whole) in(name, id string) bool {
	name, checks, part := strings.Cut(name, filterMark)
	if !w.stands[id][name] {
		return false
	}
	for check := range strings.SplitSeq(checks, "+") {
		if part && !slices.Contains(w.account.Passing[check], id) {
			return false
		}
	}
	return true
}

// processes are the programs about which a peer is asked: those of the checks of every rule at whose source it would
// stand if it met them.
func (w *whole) processes(id string) []string {
	var paths []string
	for _, r := range w.rules {
		for _, name := range slices.Concat(r.sources, r.destinations) {
			name, checks, part := strings.Cut(name, filterMark)
			if !part || !w.stands[id][name] {
				continue
			}
			for _, c := range w.account.Checks {
				if slices.Contains(strings.Split(checks, "+"), c.ID) {
					paths = append(paths, c.Processes...)
				}
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func (w *whole) members(s plainSet) *roaring.Bitmap {
	members := roaring.New()
	for _, p := range w.account.Peers {
		if w.holds(s, p.ID) {
			members.Add(p.Ordinal)
		}
	}
	return members
}

// mapOf follows the rules of visibility for one peer.
func (w *whole) mapOf(p Peer, serial int64) (*mapstate.Map, error) {
	hidden := [2][]string{} // by side: 0 out, 1 in
	for _, r := range w.rules {
		if r.hides() {
			for side := range 2 {
				if near, far := r.side(side); w.holds(plainSet{union: near}, p.ID) && !plainResource(far) {
					hidden[side] = append(hidden[side], far...)
				}
			}
		}
	}
	for side := range 2 {
		slices.Sort(hidden[side])
		hidden[side] = slices.Compact(hidden[side])
	}
	var shown [2][]plainSet
	sets, rules := map[string]*roaring.Bitmap{}, []api.CompiledRule{}
	for _, shows := range []bool{true, false} {
		for _, r := range w.rules {
			if r.shows() != shows || r.hides() || !w.knows(p, r) {
				continue
			}
			var told [2]*plainSet
			for side := range 2 {
				near, far := r.side(side)
				if !w.holds(plainSet{union: near}, p.ID) || plainResource(far) {
					continue
				}
				visible := shown[side]
				if !r.judges() {
					visible = slices.Concat(shown[0], shown[1])
				}
				if told[side] = opposite(r, far, hidden[side], visible); told[side] == nil {
					continue
				}
				sets[w.id(*told[side])] = w.members(*told[side])
			}
			for side := range 2 {
				if told[side] != nil && shows {
					shown[side] = append(shown[side], *told[side])
				}
			}
			if rule, ok := w.tell(p, r, told); ok {
				rules = append(rules, rule)
			}
		}
	}
	t := told{sets: sets, rules: rules}
	w.tellRoutes(p, &t)
	return w.assemble(p, serial, t)
}

// told is what one peer is told.
type told struct {
	sets   map[string]*roaring.Bitmap
	rules  []api.CompiledRule
	routes []api.CompiledRoute
}

// side returns the near and the far end of a rule, seen from its source (0) or its destination (1).
func (r plainRule) side(side int) (near, far []string) {
	if side == 0 {
		return r.sources, r.destinations
	}
	return r.destinations, r.sources
}

// opposite returns the set that a rule shows, or nil when it shows nobody for certain.
func opposite(r plainRule, far, hidden []string, shown []plainSet) *plainSet {
	if r.shows() {
		s := plainSet{minus: hidden}
		for _, name := range far {
			if !slices.Contains(hidden, name) {
				s.union = append(s.union, name)
			}
		}
		if len(s.union) == 0 {
			return nil
		}
		return &s
	}
	s := plainSet{union: far, bounded: true}
	inside := 0
	for _, name := range far {
		if slices.ContainsFunc(shown, func(x plainSet) bool { return len(x.minus) == 0 && !x.bounded && slices.Contains(x.union, name) }) {
			inside++
		}
	}
	switch {
	case inside == len(far):
		return &plainSet{union: far}
	case len(shown) == 0:
		return nil
	}
	for _, x := range shown {
		if !slices.ContainsFunc(s.within, func(y plainSet) bool { return x.key() == y.key() }) {
			s.within = append(s.within, x)
		}
	}
	return &s
}

func (w *whole) id(s plainSet) string { return w.cfg.opaque("s_", s.key()) }

// knows reports whether the agent of a peer can be told of a rule.
func (w *whole) knows(p Peer, r plainRule) bool { return r.judges() || w.lacks(p.ID)&FeatureTerms == 0 }

// compiled is a rule as the agent of a peer understands it.
func (w *whole) compiled(p Peer, r plainRule, form ruleForm) api.CompiledRule {
	told := rule{id: r.id, drop: r.drop, monitor: r.monitor, pending: r.phase == PhasePending, term: r.term, protocol: r.protocol, ports: r.ports}
	if w.lacks(p.ID)&FeatureTerms != 0 {
		told.term = verdict.Term{}
	}
	return told.compiled(form)
}

func (w *whole) tell(p Peer, r plainRule, told [2]*plainSet) (api.CompiledRule, bool) {
	form := ruleForm{source: w.id(plainSet{union: r.sources}), destination: w.id(plainSet{union: r.destinations})}
	switch {
	case told[0] != nil && told[1] != nil:
		form = ruleForm{api.CompiledRuleDirectionBoth, w.id(*told[1]), w.id(*told[0])}
	case told[0] != nil:
		form.direction, form.destination = api.CompiledRuleDirectionOut, w.id(*told[0])
	case told[1] != nil:
		form.direction, form.source = api.CompiledRuleDirectionIn, w.id(*told[1])
	default:
		return api.CompiledRule{}, false
	}
	return w.compiled(p, r, form), true
}

func (w *whole) assemble(p Peer, serial int64, t told) (*mapstate.Map, error) {
	all := mapstate.Content{Rules: t.rules, Routes: t.routes}
	for id, members := range t.sets {
		for ordinals := members.Iterator(); ordinals.HasNext(); {
			all.Peers = append(all.Peers, entryOf(w.byN[ordinals.Next()], w.lacks(p.ID)))
		}
		all.Sets = append(all.Sets, api.PeerSet{Id: id, Members: encode(members)})
	}
	keeps := w.naming(p, &all)
	self := selfOf(p, w.account.Settings, w.lacks(p.ID), keeps)
	self.Processes = w.processes(p.ID)
	return mapstate.Assemble(w.cfg.Epoch, serial, self, all)
}

// lacks holds the features that the agent of a peer does not offer.
func (w *whole) lacks(id string) Features {
	offer, told := w.account.Offers[id]
	if !told {
		return 0
	}
	return AllFeatures &^ offer
}

// naming adds the DNS of one peer and reports whether the peer keeps the one that it has.
func (w *whole) naming(p Peer, all *mapstate.Content) (keeps bool) {
	if w.lacks(p.ID)&FeatureDNS != 0 {
		return false
	}
	in := func(group string) bool { return slices.Contains(w.account.Groups[group], p.ID) }
	if slices.ContainsFunc(w.account.Unmanaged, in) {
		return true
	}
	if !p.Approved {
		return false
	}
	for _, z := range w.account.Zones {
		if !slices.ContainsFunc(z.Groups, in) {
			continue
		}
		all.Zones = append(all.Zones, z.view())
		for _, r := range w.account.Records {
			if r.Zone == z.ID {
				all.Records = append(all.Records, r.view())
			}
		}
	}
	for _, n := range w.account.Nameservers {
		if slices.ContainsFunc(n.Groups, in) {
			all.Nameservers = append(all.Nameservers, n.view())
		}
	}
	return false
}
