package netmap

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A shape is a network as the budgets describe it.
type shape struct{ peers, groups, policies, classes int }

var shapes = []shape{{1000, 50, 100, 129}, {10000, 200, 400, 838}}

func (s shape) peer(n int) Peer {
	return Peer{
		ID: fmt.Sprintf("peer-%06d", n), Ordinal: uint32(n), Key: fmt.Sprintf("%043d=", n), Name: fmt.Sprintf("machine-%d", n), Approved: true,
		IP: netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)}), IPv6: netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}),
	}
}

// kinds returns the sets of groups in which peers stand: two to five, as setup keys give them.
func (s shape) kinds(random *rand.Rand) [][]string {
	kinds := make([][]string, s.classes)
	for i := range kinds {
		for _, g := range random.Perm(s.groups)[:2+random.IntN(4)] {
			kinds[i] = append(kinds[i], fmt.Sprintf("group-%d", g))
		}
	}
	return kinds
}

func (s shape) policy(random *rand.Rand, i int) Policy {
	return Policy{ID: fmt.Sprintf("policy-%d", i), Enabled: true, Rules: []Rule{{
		ID: fmt.Sprintf("rule-%d", i), Enabled: true, Bidirectional: i%2 == 0, Protocol: "tcp", Ports: []PortRange{{uint16(1 + random.IntN(1000)), 2000}},
		Sources: []string{fmt.Sprintf("group-%d", random.IntN(s.groups))}, Destinations: []string{fmt.Sprintf("group-%d", random.IntN(s.groups))},
	}}}
}

func (s shape) changes() (changes []Change, kinds [][]string) {
	random := rand.New(rand.NewPCG(1, uint64(s.peers)))
	kinds = s.kinds(random)
	groups := map[string][]string{}
	for g := range s.groups {
		groups[fmt.Sprintf("group-%d", g)] = nil
	}
	for n := range s.peers {
		p := s.peer(n)
		changes = append(changes, PeerPut{p})
		for _, group := range kinds[n%len(kinds)] {
			groups[group] = append(groups[group], p.ID)
		}
	}
	for id, members := range groups {
		changes = append(changes, GroupPut{id, members})
	}
	for i := range s.policies {
		changes = append(changes, PolicyPut{s.policy(random, i)})
	}
	return changes, kinds
}

func (s shape) engine(b *testing.B) (*Engine, [][]string) {
	b.Helper()
	changes, kinds := s.changes()
	e := mustNew(b)
	if err := e.Load(1, changes); err != nil {
		b.Fatal(err)
	}
	return e, kinds
}

// joinsAtOnce is by how many peers the network of BenchmarkJoin grows before they leave again.
const joinsAtOnce = 64

// BenchmarkJoin measures one peer that joins: its entry and the patches are encoded and stand in every log concerned.
// The line for one of the peers concerned is part of the time.
func BenchmarkJoin(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, kinds := s.engine(b)
			watcher := s.peer(0).ID
			serial := int64(1)
			apply := func(changes ...Change) {
				serial++
				if _, err := e.Apply(serial, changes...); err != nil {
					b.Fatal(err)
				}
			}
			joined := 0
			b.ReportAllocs()
			for b.Loop() {
				if joined == joinsAtOnce {
					b.StopTimer() // the network must not grow for ever; this costs too much to do after each join
					for ; joined > 0; joined-- {
						apply(PeerRemove{s.peer(s.peers + joined - 1).ID})
					}
					b.StartTimer()
				}
				p := s.peer(s.peers + joined)
				joined++
				join := []Change{PeerPut{p}}
				for _, group := range kinds[int(serial)%len(kinds)] {
					join = append(join, MembersAdd{group, []string{p.ID}})
				}
				apply(join...)
				d, err := e.Deltas(watcher, serial-1)
				if err != nil {
					b.Fatal(err)
				}
				d.Line(serial - 1)
			}
		})
	}
}

// BenchmarkRename measures one peer that gets another name.
func BenchmarkRename(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, _ := s.engine(b)
			serial := int64(1)
			p := s.peer(7)
			b.ReportAllocs()
			for b.Loop() {
				serial++
				p.Name = fmt.Sprintf("renamed-%d", serial)
				if _, err := e.Apply(serial, PeerPut{p}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPolicyEdit measures one policy whose ports change, and another that goes and comes.
func BenchmarkPolicyEdit(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, _ := s.engine(b)
			serial := int64(1)
			random := rand.New(rand.NewPCG(5, 5))
			b.ReportAllocs()
			for b.Loop() {
				serial++
				if _, err := e.Apply(serial, PolicyPut{s.policy(random, random.IntN(s.policies))}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad measures the compilation of all classes from the stored account.
func BenchmarkLoad(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			changes, _ := s.changes()
			b.ReportAllocs()
			for b.Loop() {
				e := mustNew(b)
				if err := e.Load(1, changes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSnapshot measures the first snapshot of a class, whose parts nobody asked for before.
func BenchmarkSnapshot(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, _ := s.engine(b)
			b.ReportAllocs()
			for b.Loop() {
				e.cfg.Blobs = NewBlobCache(64 << 20)
				if _, err := e.Snapshot(b.Context(), s.peer(3).ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
