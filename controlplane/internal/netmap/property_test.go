package netmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

func testConfig() Config {
	return Config{Account: "a1", Epoch: "0198c3a1f2b0-7f3d", Secret: []byte("0123456789abcdef")}
}

// A world is an account beside the engine: it takes the same changes and keeps plain values.
type world struct {
	random   *rand.Rand
	peers    map[string]Peer
	groups   map[string]map[string]bool
	policies map[string]Policy
	checks   map[string]Check
	passing  map[string]map[string]bool // by check: the peers that meet it
	settings Settings
	routing  routing
	named    namedWorld
	next     int // numbers the keys of peers, so that a peer that comes again is another one
}

func newWorld(seed uint64) *world {
	return &world{
		random: rand.New(rand.NewPCG(seed, 7)), peers: map[string]Peer{}, groups: map[string]map[string]bool{}, policies: map[string]Policy{},
		checks: map[string]Check{}, passing: map[string]map[string]bool{},
		settings: Settings{Network: netip.MustParsePrefix("100.64.0.0/10"), NetworkV6: netip.MustParsePrefix("fd00:1::/64"), DNSDomain: "wattle.internal"},
		routing:  newRouting(), named: newNamedWorld(),
	}
}

const (
	worldPeers    = 8
	worldGroups   = 4
	worldPolicies = 3
)

func (w *world) account() Account {
	a := Account{Groups: map[string][]string{}, Settings: w.settings, Passing: map[string][]string{}}
	w.addChecks(&a)
	for _, id := range slices.Sorted(maps.Keys(w.peers)) {
		a.Peers = append(a.Peers, w.peers[id])
	}
	for id, members := range w.groups {
		a.Groups[id] = slices.Sorted(maps.Keys(members))
	}
	for _, id := range slices.Sorted(maps.Keys(w.policies)) {
		a.Policies = append(a.Policies, w.policies[id])
	}
	w.routing.add(&a)
	w.named.add(&a)
	return a
}

// changes is the account as a list of changes, as a store would load it.
func (a Account) changes() []Change {
	changes := []Change{SettingsPut{a.Settings}}
	for _, p := range a.Peers {
		changes = append(changes, PeerPut{p})
	}
	for _, id := range slices.Sorted(maps.Keys(a.Groups)) {
		changes = append(changes, GroupPut{id, a.Groups[id]})
	}
	for _, c := range a.Checks {
		changes = append(changes, CheckPut{c}, PostureBits{Check: c.ID, Pass: a.Passing[c.ID]})
	}
	for _, p := range a.Policies {
		changes = append(changes, PolicyPut{p})
	}
	for _, r := range a.Resources {
		changes = append(changes, ResourcePut{r})
	}
	for _, r := range a.Routers {
		changes = append(changes, RouterPut{r})
	}
	for _, r := range a.Routes {
		changes = append(changes, RoutePut{r})
	}
	return append(changes, a.namedChanges()...)
}

func (w *world) batch() []Change {
	var changes []Change
	for range 1 + w.random.IntN(3) {
		changes = append(changes, w.change())
	}
	return changes
}

func (w *world) change() Change {
	id := fmt.Sprintf("p%d", w.random.IntN(worldPeers))
	group := fmt.Sprintf("g%d", w.random.IntN(worldGroups))
	policy := fmt.Sprintf("y%d", w.random.IntN(worldPolicies))
	switch pick := w.random.IntN(39); {
	case pick >= 34:
		return w.posture(id)
	case pick >= 27:
		return w.changeNamed()
	case pick >= 20:
		return w.changeRouting()
	case pick < 5:
		return w.putPeer(id)
	case pick < 6:
		delete(w.peers, id)
		delete(w.routing.offers, id)
		for _, members := range w.groups {
			delete(members, id)
		}
		for _, passing := range w.passing {
			delete(passing, id)
		}
		return PeerRemove{id}
	case pick < 8 || w.groups[group] == nil:
		return w.putGroup(group)
	case pick < 9:
		delete(w.groups, group)
		return GroupRemove{group}
	case pick < 12:
		add := MembersAdd{group, w.some(w.peerIDs())}
		for _, id := range add.Peers {
			w.groups[group][id] = true
		}
		return add
	case pick < 15:
		remove := MembersRemove{group, w.some(w.peerIDs())}
		for _, id := range remove.Peers {
			delete(w.groups[group], id)
		}
		return remove
	case pick < 18:
		w.policies[policy] = w.policy(policy)
		return PolicyPut{w.policies[policy]}
	case pick < 19:
		delete(w.policies, policy)
		return PolicyRemove{policy}
	}
	w.settings.DNSDomain = fmt.Sprintf("wattle%d.internal", w.random.IntN(3))
	w.settings.KeyRotationDays = w.random.IntN(2)
	w.settings.PostQuantum = []string{"", "strict"}[w.random.IntN(2)]
	w.settings.KeepPaths = w.random.IntN(2) == 1
	return SettingsPut{w.settings}
}

func (w *world) putPeer(id string) Change {
	p, known := w.peers[id]
	if !known {
		var n uint32
		_, _ = fmt.Sscanf(id, "p%d", &n)
		w.next++
		// A peer that comes again gets its ordinal again at once: harder than the quarantine of the store.
		p = Peer{ID: id, Ordinal: n * 3000, Key: fmt.Sprintf("key%d", w.next), IPv6: netip.MustParseAddr("fd00:1::1")}
	}
	p.Name = fmt.Sprintf("name%d", w.random.IntN(3))
	p.Aliases = nil
	for i := range w.random.IntN(3) {
		p.Aliases = append(p.Aliases, fmt.Sprintf("alias%d", i))
	}
	p.IP = netip.AddrFrom4([4]byte{100, 64, byte(w.random.IntN(2)), 9})
	if p.NextKey = ""; w.random.IntN(3) == 0 {
		p.NextKey = fmt.Sprintf("next%d", w.random.IntN(3))
	}
	p.Approved = w.random.IntN(5) > 0
	w.peers[id] = p
	return PeerPut{p}
}

func (w *world) putGroup(group string) Change {
	w.groups[group] = map[string]bool{}
	put := GroupPut{group, w.some(w.peerIDs())}
	for _, id := range put.Members {
		w.groups[group][id] = true
	}
	return put
}

func (w *world) peerIDs() []string { return slices.Sorted(maps.Keys(w.peers)) }

func (w *world) some(ids []string) []string {
	var some []string
	for _, id := range ids {
		if w.random.IntN(3) == 0 {
			some = append(some, id)
		}
	}
	return some
}

func (w *world) policy(id string) Policy {
	p := Policy{ID: id, Enabled: w.random.IntN(6) > 0, Checks: w.someChecks()}
	for i := range 1 + w.random.IntN(3) {
		r := Rule{
			ID: fmt.Sprintf("%s-r%d", id, i), Enabled: w.random.IntN(6) > 0, Drop: w.random.IntN(3) == 0, Bidirectional: w.random.IntN(2) == 0,
			Protocol: []string{"all", "all", "tcp", "udp", "icmp", "ssh"}[w.random.IntN(6)],
		}
		if r.Protocol == "tcp" || r.Protocol == "udp" {
			for range w.random.IntN(3) {
				first := uint16(1 + w.random.IntN(4))
				r.Ports = append(r.Ports, PortRange{first, first + uint16(w.random.IntN(2))})
			}
		}
		r.Monitor = w.random.IntN(5) == 0
		w.phase(&r)
		r.Sources, r.SourcePeer, r.SourceResource = w.end()
		r.Destinations, r.DestinationPeer, r.DestinationResource = w.end()
		p.Rules = append(p.Rules, r)
	}
	return p
}

// looked is when the maps of a world are looked at. Terms begin and end a while before and after it.
var looked = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

// phase gives some rules a term.
func (w *world) phase(r *Rule) {
	const hour = time.Hour
	switch w.random.IntN(8) {
	case 0:
		r.Term = verdict.Term{NotBefore: looked.Add(hour), NotAfter: looked.Add(2 * hour)}
		r.Phase = PhasePending
	case 1:
		r.Term = verdict.Term{NotBefore: looked.Add(-hour), NotAfter: looked.Add(time.Duration(1+w.random.IntN(2)) * hour)}
	case 2:
		r.Term, r.Phase = verdict.Term{NotAfter: looked.Add(-hour)}, PhaseExpired
	}
}

// end names groups that may not exist, or a peer or resource that may not.
func (w *world) end() (groups []string, peer, resource string) {
	switch w.random.IntN(8) {
	case 0, 1:
		return nil, fmt.Sprintf("p%d", w.random.IntN(worldPeers)), ""
	case 2:
		return nil, "", fmt.Sprintf("n%d", w.random.IntN(worldResources))
	}
	return w.someGroups(), "", ""
}

func (w *world) someGroups() (groups []string) {
	for i := range worldGroups {
		if w.random.IntN(3) == 0 {
			groups = append(groups, fmt.Sprintf("g%d", i))
		}
	}
	if groups == nil {
		groups = []string{"g0"}
	}
	return groups
}

// TestEngineEqualsRecompute runs random writes and compares every peer's map with the oracle after each. Agents follow
// through deltas: one at every write, one now and then, one from stored positions.
func TestEngineEqualsRecompute(t *testing.T) {
	sequences, parts := 2000, 4
	if testing.Short() {
		sequences = 40
	}
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			resumed := 0
			for seed := part; seed < sequences; seed += parts {
				trial := newTrial(t, uint64(seed))
				trial.run(25)
				resumed += trial.resumed
			}
			if resumed < sequences/parts {
				t.Errorf("%d stored maps went on by deltas in %d sequences; resuming is hardly ever possible", resumed, sequences/parts)
			}
		})
	}
}

// A trial is one random sequence of writes with agents that follow.
type trial struct {
	t      *testing.T
	seed   uint64
	world  *world
	engine *Engine
	serial int64
	prompt map[string]*mapstate.Map // agents that read every delta
	slow   map[string]*mapstate.Map // agents that read now and then
	past   []map[string]*mapstate.Map
	// resumed counts stored maps that went on by deltas.
	resumed int
	// gone is the serial before which the logs may be incomplete.
	gone int64
}

func newTrial(t *testing.T, seed uint64) *trial {
	engine, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{t: t, seed: seed, world: newWorld(seed), engine: engine, prompt: map[string]*mapstate.Map{}, slow: map[string]*mapstate.Map{}}
	tr.serial = 10
	if err := engine.Load(tr.serial, tr.world.account().changes()); err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr *trial) fatalf(format string, args ...any) {
	tr.t.Helper()
	tr.t.Fatalf("seed %d, serial %d: %s", tr.seed, tr.serial, fmt.Sprintf(format, args...))
}

func (tr *trial) run(steps int) {
	for range steps {
		tr.serial += 1 + int64(tr.world.random.IntN(2))
		changes := tr.world.batch()
		update, err := tr.apply(changes)
		if err != nil {
			tr.fatalf("%+v: %v", changes, err)
		}
		tr.offer()
		want, err := Compile(testConfig(), tr.serial, tr.world.account())
		if err != nil {
			tr.fatalf("the oracle fails: %v", err)
		}
		told := map[string]bool{}
		for id := range update.Peers() {
			told[id] = true
		}
		tr.forget(want)
		for _, id := range slices.Sorted(maps.Keys(want)) {
			tr.compare(id, want[id], told[id], changes)
		}
		tr.visibility(want)
		if tr.world.random.IntN(3) == 0 {
			tr.routed(want)
		}
		tr.past = append(tr.past, tr.snapshotOfAll())
	}
}

// apply takes a batch in the usual way, seldom by building the account anew, and forgets old logs now and then.
func (tr *trial) apply(changes []Change) (*Update, error) {
	switch tr.world.random.IntN(40) {
	case 0:
		tr.gone = tr.serial
		return tr.engine.Rebuild(tr.serial, tr.world.account().changes())
	case 1:
		tr.gone = max(tr.gone, tr.serial-5)
		tr.engine.Forget(tr.serial - 5)
	}
	return tr.engine.Apply(tr.serial, changes...)
}

// forget removes the agents of peers that are gone or are another peer now.
func (tr *trial) forget(want map[string]*mapstate.Map) {
	for _, agents := range []map[string]*mapstate.Map{tr.prompt, tr.slow} {
		for id, agent := range agents {
			if want[id] == nil || want[id].Self.Key != agent.Self.Key {
				delete(agents, id)
			}
		}
	}
}

func (tr *trial) snapshotOfAll() map[string]*mapstate.Map {
	all := map[string]*mapstate.Map{}
	for id, m := range tr.prompt {
		all[id] = m.Clone()
	}
	return all
}

func (tr *trial) compare(id string, want *mapstate.Map, told bool, changes []Change) {
	position, err := tr.engine.Position(id)
	if err != nil || position.Digest != want.Digest().String() {
		tr.fatalf("after %+v the engine has digest %s for %s, error %v; want %s", changes, position.Digest, id, err, want.Digest())
	}
	if snapshot := tr.load(id); !snapshot.Equal(want) {
		tr.fatalf("the snapshot of %s is\n%s\nwant\n%s", id, show(snapshot), show(want))
	}
	switch agent := tr.prompt[id]; {
	case agent == nil:
		tr.prompt[id] = want.Clone()
	case told:
		tr.follow(id, agent, want)
	case !agent.SameContent(want):
		tr.fatalf("after %+v nobody told %s, whose map is\n%s\nwant\n%s", changes, id, show(agent), show(want))
	}
	switch agent := tr.slow[id]; {
	case agent == nil:
		tr.slow[id] = want.Clone()
	case tr.world.random.IntN(5) == 0:
		tr.follow(id, agent, want)
	}
	if len(tr.past) > 0 && tr.world.random.IntN(4) == 0 {
		old := tr.past[tr.world.random.IntN(len(tr.past))][id]
		if old != nil && old.Self.Key == want.Self.Key {
			tr.resume(id, old.Clone(), want)
		}
	}
}

// follow reads one merged delta op by op: the agent checks every reference on the way.
func (tr *trial) follow(id string, agent, want *mapstate.Map) {
	delta, err := tr.engine.Deltas(id, agent.Serial)
	if errors.Is(err, ErrGone) && agent.Serial < tr.gone {
		*agent = *tr.load(id) // equal to what is wanted, as compare has seen
		return
	}
	if err != nil {
		tr.fatalf("deltas of %s since %d: %v", id, agent.Serial, err)
	}
	if delta.Empty() {
		if !agent.SameContent(want) {
			tr.fatalf("the delta of %s since %d is empty, but the map differs:\n%s\nwant\n%s", id, agent.Serial, show(agent), show(want))
		}
		return
	}
	event, err := delta.Event(agent.Serial)
	if err != nil {
		tr.fatalf("the delta of %s does not decode: %v", id, err)
	}
	before := show(agent)
	if err := agent.Apply(event); err != nil {
		tr.fatalf("%s refuses %s: %v\nmap\n%s\nwant\n%s", id, delta.Line(agent.Serial), err, before, show(want))
	}
	if !agent.Equal(want) {
		tr.fatalf("%s has\n%s\nwant\n%s\nbefore\n%s\ndelta %s", id, show(agent), show(want), before, delta.Line(0))
	}
}

// resume goes on from a stored map, as after a reconnect.
func (tr *trial) resume(id string, old, want *mapstate.Map) {
	from, ok, err := tr.engine.Resume(id, old.Position())
	if err != nil {
		tr.fatalf("resume of %s: %v", id, err)
	}
	if !ok {
		return // a snapshot, compared elsewhere; TestResumeNeedsNoSnapshot demands the other case
	}
	if from != old.Serial {
		if from != tr.serial || !old.SameContent(want) {
			tr.fatalf("%s resumes from %d, its map is of %d and differs", id, from, old.Serial)
		}
		return
	}
	tr.resumed++
	tr.follow(id, old, want)
}

func (tr *trial) load(id string) *mapstate.Map {
	snapshot, err := tr.engine.Snapshot(tr.t.Context(), id)
	if err != nil {
		tr.fatalf("snapshot of %s: %v", id, err)
	}
	m, err := mapstate.Load(snapshot.Event, func(part api.BlobRef) ([]byte, error) {
		for _, blob := range snapshot.Blobs {
			if blob.Sha256 == part.Sha256 {
				return blob.Compressed, nil
			}
		}
		return nil, errors.New("the snapshot lacks a part")
	})
	if err != nil {
		tr.fatalf("snapshot of %s: %v", id, err)
	}
	if faults := m.Faults(); len(faults) > 0 {
		tr.fatalf("snapshot of %s: %v", id, faults)
	}
	return m
}

func show(m *mapstate.Map) string {
	raw, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// visibility checks maps against the matcher over whole rules: who may send anything to another, or hear from it, sees
// it, and nobody sees more; and each side's rules judge each packet as the whole rules do.
func (tr *trial) visibility(want map[string]*mapstate.Map) {
	account := tr.world.account()
	whole := CompileVerdict(testConfig(), account)
	hidden := hiddenPairs(account)
	compiled := map[string]verdict.Rules{}
	for id, m := range want {
		compiled[id] = m.Verdict(looked)
	}
	for _, a := range account.Peers {
		for _, b := range account.Peers {
			if a.ID == b.ID {
				continue
			}
			allowed := false
			for _, packet := range samplePackets(a.Ordinal, b.Ordinal) {
				verdict := whole.Evaluate(packet).Allowed
				allowed = allowed || verdict
				if out := compiled[a.ID].Evaluate(packet).Allowed; out != verdict {
					tr.fatalf("packet %+v: the sender allows it %t, the account %t", packet, out, verdict)
				}
				if in := compiled[b.ID].Evaluate(packet).Allowed; in != verdict {
					tr.fatalf("packet %+v: the receiver allows it %t, the account %t", packet, in, verdict)
				}
			}
			_, seesB := want[a.ID].Peers.Get(b.Ordinal)
			_, seesA := want[b.ID].Peers.Get(a.Ordinal)
			if allowed && (!seesA || !seesB) {
				tr.fatalf("%s may send to %s, but one sees %t and the other %t", a.ID, b.ID, seesB, seesA)
			}
			if seesB && !hidden.accepts(a.ID, b.ID) && !hidden.accepts(b.ID, a.ID) && !tr.meetThroughRoute(want[a.ID], b.Ordinal) {
				tr.fatalf("%s sees %s, but nothing between them is accepted", a.ID, b.ID)
			}
			if tr.engine.Sees(a.ID, b.ID) != seesB {
				tr.fatalf("the engine says %s sees %s: %t, its map: %t", a.ID, b.ID, !seesB, seesB)
			}
		}
	}
}

func samplePackets(a, b uint32) []verdict.Packet {
	var packets []verdict.Packet
	for port := range uint16(7) {
		packets = append(packets, verdict.Packet{Source: a, Destination: b, Protocol: verdict.NumberTCP, Port: port},
			verdict.Packet{Source: a, Destination: b, Protocol: verdict.NumberUDP, Port: port})
	}
	return append(packets, verdict.Packet{Source: a, Destination: b, Protocol: verdict.NumberTCP, Port: 22},
		verdict.Packet{Source: a, Destination: b, Protocol: verdict.NumberICMP}, verdict.Packet{Source: a, Destination: b, Protocol: 47})
}

// pairs says, by sender and receiver, what accept rules and all-protocol drops say of them.
type pairs struct{ accepted, dropped map[[2]string]bool }

func (p pairs) accepts(a, b string) bool {
	return p.accepted[[2]string{a, b}] && !p.dropped[[2]string{a, b}]
}

func hiddenPairs(account Account) pairs {
	p := pairs{map[[2]string]bool{}, map[[2]string]bool{}}
	w := newWhole(testConfig(), account)
	for _, r := range w.rules {
		for _, a := range account.Peers {
			for _, b := range account.Peers {
				if !w.holds(plainSet{union: r.sources}, a.ID) || !w.holds(plainSet{union: r.destinations}, b.ID) {
					continue
				}
				if plainResource(r.sources) || plainResource(r.destinations) {
					continue
				}
				switch {
				case !r.judges():
				case !r.drop:
					p.accepted[[2]string{a.ID, b.ID}] = true
				case r.protocol == api.CompiledRuleProtocolAll:
					p.dropped[[2]string{a.ID, b.ID}] = true
				}
			}
		}
	}
	return p
}

// TestSplitBatchesEndEqual applies the same changes under one serial, one by one, and by loading the result.
func TestSplitBatchesEndEqual(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(seed)
		changes := []Change{SettingsPut{w.settings}}
		for range 20 {
			changes = append(changes, w.batch()...)
		}
		merged, split, loaded := mustNew(t), mustNew(t), mustNew(t)
		last := int64(len(changes))
		if _, err := merged.Apply(last, changes...); err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			if _, err := split.Apply(int64(i+1), c); err != nil {
				t.Fatal(err)
			}
		}
		if err := loaded.Load(last, w.account().changes()); err != nil {
			t.Fatal(err)
		}
		for id := range w.peers {
			a, errA := merged.Position(id)
			b, errB := split.Position(id)
			c, errC := loaded.Position(id)
			if err := errors.Join(errA, errB, errC); err != nil {
				t.Fatal(err)
			}
			if a != b || a != c {
				t.Fatalf("seed %d: %s is at %v merged, %v split, %v loaded", seed, id, a, b, c)
			}
		}
		if len(merged.sets) != len(loaded.sets) || len(split.sets) != len(loaded.sets) || len(split.classes) != len(loaded.classes) || len(split.bases) != len(loaded.bases) ||
			len(merged.checks) != len(loaded.checks) || len(split.checks) != len(loaded.checks) {
			t.Fatalf("seed %d: sets %d, %d, %d, classes %d, %d, bases %d, %d: something is kept that nobody sees", seed,
				len(merged.sets), len(split.sets), len(loaded.sets), len(split.classes), len(loaded.classes), len(split.bases), len(loaded.bases))
		}
	}
}

func mustNew(t testing.TB) *Engine {
	t.Helper()
	e, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	return e
}
