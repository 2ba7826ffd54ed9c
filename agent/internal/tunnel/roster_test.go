package tunnel

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/internal/table"
)

// has reports whether the device itself has a peer.
func (d *Device) has(key PublicKey) bool {
	m := d.roster.member(key)
	return m != nil && m.active.Load()
}

// Of all the peers that a machine may meet the device has those that it talks
// to: the one that a packet is for, and the one that a handshake comes from.
func TestPeersBecomeActiveWhenTheyMatter(t *testing.T) {
	a, b, other := GenerateKey(), GenerateKey(), GenerateKey()
	da := newTestDevice(t, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"), peerAt(other, "10.9.0.3"))
	db := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"), peerAt(other, "10.9.0.3"))
	if da.has(b.Public()) || db.has(a.Public()) {
		t.Fatal("a peer is active before the first packet")
	}
	da.Bind().Endpoint(b.Public()).Use(da.Bind().DirectPath(loopback(db)), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := da.Ping(ctx, netip.MustParseAddr("10.9.0.2")); err != nil {
		t.Fatal(err)
	}
	if !da.has(b.Public()) {
		t.Error("the peer that a packet went to is not active")
	}
	if !db.has(a.Public()) {
		t.Error("the peer that a handshake came from is not active")
	}
	if da.has(other.Public()) || db.has(other.Public()) {
		t.Error("a peer that nobody spoke to is active")
	}

	// A peer that has left is not let in again by its handshake.
	if err := db.Set(t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}); err != nil {
		t.Fatal(err)
	}
	if db.admit(a.Public()); db.has(a.Public()) || len(db.configured) != 0 {
		t.Error("a peer that has left is in the device")
	}
}

// What is retired keeps its counters and comes back with the next packet.
func TestIdlePeerIsRetiredAndComesBack(t *testing.T) {
	a, b := GenerateKey(), GenerateKey()
	da := newTestDevice(t, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"))
	db := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"))
	e := da.Bind().Endpoint(b.Public())
	path := da.Bind().DirectPath(loopback(db))
	ping := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := da.Ping(ctx, netip.MustParseAddr("10.9.0.2")); err != nil {
			t.Fatal(err)
		}
	}
	e.Use(path, nil)
	ping()
	if da.retireIdle(); !da.has(b.Public()) {
		t.Fatal("a peer with a path was retired")
	}
	e.Idle()
	if da.retireIdle(); !da.has(b.Public()) {
		t.Fatal("a peer was retired while its session may live")
	}
	before, err := da.Stats()
	if err != nil {
		t.Fatal(err)
	}
	e.stirred.Store(da.Bind().now() - int64(retireAfter) - 1)
	if da.retireIdle(); da.has(b.Public()) {
		t.Fatal("an idle peer was not retired")
	}
	after, err := da.Stats()
	if err != nil || after[b.Public()] != before[b.Public()] || after[b.Public()].ReceivedBytes == 0 {
		t.Errorf("counters %+v after the retirement, want %+v; %v", after[b.Public()], before[b.Public()], err)
	}
	if da.Bind().Endpoint(b.Public()) != e {
		t.Error("the endpoint of a retired peer is another one: what is known of its paths is lost")
	}
	// The same packet that wakes the peer goes on: b has lost nothing but the session.
	if err := db.Set(t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}); err != nil {
		t.Fatal(err)
	}
	if err := db.Set(t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}, Peers: tableOf(peerAt(a, "10.9.0.1"))}); err != nil {
		t.Fatal(err)
	}
	e.Use(path, nil)
	ping()
	final, err := da.Stats()
	if err != nil || final[b.Public()].ReceivedBytes <= after[b.Public()].ReceivedBytes {
		t.Errorf("counters %+v, want more than %+v; %v", final[b.Public()], after[b.Public()], err)
	}
}

func TestRosterChoosesTheLongestPrefix(t *testing.T) {
	net, host, six := GenerateKey().Public(), GenerateKey().Public(), GenerateKey().Public()
	r := newRoster()
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	peers := []Peer{
		{PublicKey: net, AllowedIPs: prefixes("10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/16")},
		{PublicKey: host, AllowedIPs: prefixes("10.1.0.1/32")},
		{PublicKey: six, AllowedIPs: prefixes("fd00::/8", "fd00::1/128")},
	}
	if err := r.replace(nil, peers); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]PublicKey{
		"10.1.0.1": host, "10.1.0.2": net, "10.9.9.9": net, "192.0.2.1": net, "fd00::1": six, "fdff::": six, "2001:db8::1": {},
	} {
		var got PublicKey
		if m := r.owner(netip.MustParseAddr(text)); m != nil {
			got = m.peer.PublicKey
		}
		if got != want {
			t.Errorf("%s belongs to %s, want %s", text, got, want)
		}
	}
	changes := r.changes.Load()
	if err := r.replace(nil, []Peer{{PublicKey: GenerateKey().Public(), AllowedIPs: prefixes("10.0.0.7/8")}}); err == nil {
		t.Error("one prefix was given to two peers")
	}
	if r.owner(netip.MustParseAddr("10.9.9.9")) == nil || r.changes.Load() != changes {
		t.Error("a roster that was refused has changed something")
	}
}

func TestDestination(t *testing.T) {
	four := make([]byte, 20)
	four[0], four[16], four[19] = 0x45, 10, 7
	six := make([]byte, 40)
	six[0], six[24], six[39] = 0x60, 0xfd, 9
	for want, packet := range map[string][]byte{"10.0.0.7": four, "fd00::9": six} {
		if got, err := destination(packet); err != nil || got.String() != want {
			t.Errorf("destination %s, %v; want %s", got, err, want)
		}
		for _, broken := range [][]byte{nil, packet[:len(packet)-1], append([]byte{0x10}, packet[1:]...)} {
			if got, err := destination(broken); err == nil {
				t.Errorf("%d bytes go to %s", len(broken), got)
			}
		}
	}
}

// TestRosterFollowsChanges takes peers in and out at random, through Set. The roster must be what one that is told everything at
// once is.
func TestRosterFollowsChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	keys := make([]PublicKey, 12)
	for i := range keys {
		keys[i] = GenerateKey().Public()
	}
	d := newTestDevice(t, GenerateKey(), "10.9.0.1", nil)
	var wanted table.Table[PublicKey, Peer]
	for range 200 {
		for range 1 + random.IntN(4) {
			at := random.IntN(6)
			switch random.IntN(4) {
			case 0:
				wanted = wanted.Without(keys[at])
			case 1: // a prefix moves from whoever has it
				prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), 0, 0}), 16)
				for key, p := range wanted.All() {
					p.AllowedIPs = slices.DeleteFunc(slices.Clone(p.AllowedIPs), func(had netip.Prefix) bool { return had == prefix })
					wanted = wanted.With(key, p)
				}
				p := wanted.At(keys[at])
				wanted = wanted.With(keys[at], Peer{PublicKey: keys[at], NextKey: p.NextKey, AllowedIPs: append(slices.Clone(p.AllowedIPs), prefix)})
			case 2:
				wanted = wanted.With(keys[at], Peer{PublicKey: keys[at], NextKey: keys[at+6], AllowedIPs: wanted.At(keys[at]).AllowedIPs})
			case 3:
				d.activate(keys[at])
			}
		}
		if err := d.Set(t.Context(), Settings{Addresses: d.addresses, Peers: wanted}); err != nil {
			t.Fatal(err)
		}
		whole := newRoster()
		var all []Peer
		for p := range wanted.Values() {
			all = append(all, d.entries(p)...)
		}
		if err := whole.replace(nil, all); err != nil {
			t.Fatal(err)
		}
		if len(whole.members) != len(d.roster.members) || len(whole.owners) != len(d.roster.owners) ||
			!slices.Equal(whole.lengths4.list, d.roster.lengths4.list) {
			t.Fatalf("the roster is %v, want %v", d.roster.owners, whole.owners)
		}
		for prefix, m := range whole.owners {
			if got := d.roster.owners[prefix]; got == nil || got.peer.PublicKey != m.peer.PublicKey {
				t.Fatalf("%s belongs to %v, want %s", prefix, got, m.peer.PublicKey)
			}
		}
		for key, m := range d.roster.members {
			if _, configured := d.configured[key]; configured != m.active.Load() || (d.roster.awake[key] == m) != m.active.Load() {
				t.Fatalf("peer %s: configured %v, active %v", key, configured, m.active.Load())
			}
		}
		if len(d.configured) != len(d.roster.awake) {
			t.Fatalf("the device has %d peers, want %d", len(d.configured), len(d.roster.awake))
		}
	}
}
