package connectivity

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// agrees waits until both machines use one secret, and a session with it.
func agrees(t *testing.T, a, b *machine) {
	t.Helper()
	for m, other := range map[*machine]*machine{a: b, b: a} {
		var last Status
		eventually(t, fmt.Sprintf("%s has a post-quantum session with %s", m.id, other.id), func() bool {
			last, _ = m.paths.Status(other.id)
			stats, err := m.device.Stats()
			return err == nil && last.Keys.State == postquantum.Agreed && stats[other.key.Public()].LastHandshake.After(last.Keys.Since)
		})
	}
	shares(t, a, b)
}

// shares waits until both machines have one key for the next session.
func shares(t *testing.T, a, b *machine) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s and %s have the same key", a.id, b.id), func() bool {
		one, other := a.mixedFor(b), b.mixedFor(a)
		return one.Equal(other) && !one.IsZero()
	})
}

// mixedFor returns the pre-shared key that m has with a peer.
func (m *machine) mixedFor(peer *machine) (key tunnel.PresharedKey) {
	m.inLoop(func(context.Context) {
		if pr := m.paths.byID[peer.id]; pr != nil {
			at := bondKey{m.paths.key.Public(), pr.uses}
			key, _ = presharedKey(pr.bonds[at].secret, at)
		}
	})
	return key
}

// reachesNot says that pings are not answered.
func (m *machine) reachesNot(t *testing.T, to *machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := m.device.Ping(ctx, to.addr); err == nil {
		t.Errorf("%s reaches %s", m.id, to.id)
	}
}

func (m *machine) keysAre(t *testing.T, to *machine, state postquantum.State, reason postquantum.Reason) {
	t.Helper()
	var last KeyStatus
	eventually(t, fmt.Sprintf("%s says %s %s of %s", m.id, state, reason, to.id), func() bool {
		s, _ := m.paths.Status(to.id)
		last = s.Keys
		return last.State == state && last.Reason == reason
	})
}

// acquainted are two machines of one kind that are told of each other.
func acquainted(t *testing.T, w *wire, opts machineOptions) (a, b *machine) {
	t.Helper()
	a = newMachine(t, w, "a", "10.77.0.1", opts)
	b = newMachine(t, w, "b", "10.77.0.2", opts)
	introduce(t, a, b)
	return a, b
}

// familiar are two that share a key and a direct path.
func familiar(t *testing.T, w *wire, opts machineOptions) (a, b *machine) {
	t.Helper()
	a, b = acquainted(t, w, opts)
	a.ping(t, b)
	shares(t, a, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	return a, b
}

func TestStrictPairAgreesFirst(t *testing.T) {
	for _, force := range []Path{PathDirect, PathRelayed} {
		t.Run(string(force), func(t *testing.T) {
			r, w := startRelay(t), newWire()
			opts := machineOptions{relay: r.udp(), force: force, mode: postquantum.Strict}
			a, b := acquainted(t, w, opts)
			a.keysAre(t, b, postquantum.Pending, postquantum.ReasonNotBegun)
			t.Logf("first ping: %v", a.ping(t, b))
			t.Logf("ping back: %v", b.ping(t, a))
			agrees(t, a, b)
		})
	}
}

func TestStrictPairBeginsAtOnce(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a, b := acquainted(t, w, opts)
	done := make(chan time.Duration, 2)
	go func() { done <- a.ping(t, b) }()
	go func() { done <- b.ping(t, a) }()
	t.Logf("first pings: %v, %v", <-done, <-done)
	agrees(t, a, b)
}

func TestPermissivePairUpgrades(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Permissive}
	a, b := acquainted(t, w, opts)
	a.ping(t, b)
	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	agrees(t, a, b)
	forth.stop()
	back.stop()
	t.Logf("%d and %d packets, none lost", forth.sent.Load(), back.sent.Load())
}

func TestStrictNeverFlowsWithoutAKey(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{mode: postquantum.Strict})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{mode: postquantum.Off})
	introduce(t, a, b)
	a.reachesNot(t, b)
	b.reachesNot(t, a)
	a.keysAre(t, b, postquantum.Unavailable, postquantum.ReasonPeerOff)
	b.keysAre(t, a, "", "")

	b.mode = postquantum.Permissive
	introduce(t, a, b)
	a.reaches(t, b)
	agrees(t, a, b)
}

// old makes the boxes of a machine those of an agent that knows nothing of
// post-quantum keys, and keeps from it what it would not understand.
func (w *wire) old(t *testing.T, from, to *machine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	reseal, err := newSealer(from.key, to.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	read, err := newSealer(to.key, from.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.meddle = func(sender, _ string, box []byte) [][]byte {
		if sender != from.id {
			return [][]byte{box}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		message, _, err := read.open(box)
		if err != nil {
			t.Errorf("box not opened: %v", err)
			return nil
		}
		h, err := decodeHello(message)
		if err != nil || h.Session == "" {
			return nil
		}
		h.Keys = nil
		if message, err = h.encode(); err == nil {
			box, err = reseal.seal(message)
		}
		if err != nil {
			t.Errorf("box not sealed: %v", err)
		}
		return [][]byte{box}
	}
}

func TestOldAgent(t *testing.T) {
	for _, mode := range []postquantum.Mode{postquantum.Strict, postquantum.Permissive} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWire()
			a := newMachine(t, w, "a", "10.77.0.1", machineOptions{mode: mode})
			b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
			w.old(t, b, a)
			introduce(t, a, b)
			if mode == postquantum.Strict {
				a.reachesNot(t, b)
				b.reachesNot(t, a)
			} else {
				a.ping(t, b)
				b.ping(t, a)
			}
			a.keysAre(t, b, postquantum.Unavailable, postquantum.ReasonTooOld)
		})
	}
}

func TestRestartedPeerAgreesAnew(t *testing.T) {
	for _, mode := range []postquantum.Mode{postquantum.Strict, postquantum.Permissive} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWire()
			opts := machineOptions{mode: mode}
			a, b := familiar(t, w, opts)
			known := b.paths.Known()
			former := a.mixedFor(b)
			opts.known = known
			again := b.restart(t, w, opts)
			introduce(t, again, a)
			t.Logf("first answer after %v", a.reaches(t, again))
			again.ping(t, a)
			unaided(t, a, again)
			shares(t, a, again)
			if a.mixedFor(again).Equal(former) {
				t.Error("the key of the former process is still in use")
			}
		})
	}
}

// A process that has forgotten all calls before the other side has heard of it,
// and meets the secret of the former process. The other side calls back.
func TestRestartedPeerThatCallsTooSoon(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Permissive}
	a, b := familiar(t, w, opts)
	opts.known = b.paths.Known()
	w.setCut(true)
	deaf := make(chan struct{})
	a.paths.post(func(context.Context) { <-deaf }) // its device answers meanwhile
	start := time.Now()
	again := b.restart(t, w, opts)
	introduce(t, again, a)
	var ping sync.WaitGroup
	ping.Go(func() { t.Logf("first answer after %v", again.ping(t, a)) })
	eventually(t, "the call has been refused", func() bool {
		age, ever := a.device.Bind().Endpoint(b.key.Public()).HandshakeAge()
		return ever && age < time.Since(start) && !again.device.Bind().Endpoint(a.key.Public()).Handshaking()
	})
	close(deaf)
	ping.Wait()
	unaided(t, a, again)
}

// Without the control plane nothing can be agreed on: a permissive pair does
// without, even if the other side has forgotten.
func TestPermissivePairNeedsNoSignals(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Permissive}
	a, b := familiar(t, w, opts)
	opts.known = b.paths.Known()
	w.setCut(true)
	again := b.restart(t, w, opts)
	introduce(t, again, a)
	a.reaches(t, again)
	again.reaches(t, a)
}

// A strict pair of which one side has forgotten comes back without the control
// plane, along any path that both still know.
func TestStrictPairNeedsNoSignals(t *testing.T) {
	for _, force := range []Path{PathDirect, PathRelayed} {
		t.Run(string(force), func(t *testing.T) {
			r, w := startRelay(t), newWire()
			opts := machineOptions{mode: postquantum.Strict, force: force, relay: r.udp()}
			a, b := acquainted(t, w, opts)
			a.ping(t, b)
			shares(t, a, b)
			a.onPath(t, b, force)
			b.onPath(t, a, force)
			former := a.mixedFor(b)
			opts.known = b.paths.Known()
			w.setCut(true)
			again := b.restart(t, w, opts)
			introduce(t, again, a)
			t.Logf("first answer after %v", a.reaches(t, again))
			again.reaches(t, a)
			agrees(t, a, again)
			if a.mixedFor(again).Equal(former) {
				t.Error("the key of the former process is still in use")
			}
			unaided(t, a, again)
		})
	}
}

// Messages are lost, come late, twice, or are made up: a strict pair agrees all
// the same.
func TestAgreementOverABadWire(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	stranger, err := newSealer(tunnel.GenerateKey(), b.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var seen [][]byte
	w.meddle = func(_, _ string, box []byte) [][]byte {
		w.mu.Lock()
		defer w.mu.Unlock()
		seen = append(seen, box)
		forged, err := stranger.seal([]byte(`{"post_quantum":{"mode":"off"}}`))
		if err != nil {
			t.Error(err)
		}
		garbage := append([]byte{boxVersion}, make([]byte, 2000)...)
		noise := append([][]byte{garbage, make([]byte, MaximumBox+1), forged}, seen...) // what came before, of either side, once more
		if len(seen) <= 2 || len(seen)%4 == 0 {
			return noise // lost
		}
		return append(noise, box, box)
	}
	introduce(t, a, b)
	a.reaches(t, b)
	b.reaches(t, a)
	agrees(t, a, b)
}

// A peer inside the network says whatever it likes: the machine answers at the
// pace of what it is told, and pairs with others stay as they are.
func TestHostilePeerDoesNotDisturbOthers(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	evil := newMachine(t, w, "evil", "10.77.0.66", opts)
	introduce(t, a, b, evil)
	a.ping(t, b)
	agrees(t, a, b)
	key := a.mixedFor(b)
	evil.stop()
	seal, err := newSealer(evil.key, a.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	offer, _, err := postquantum.MLKEM{}.Offer()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	before := w.sent
	w.mu.Unlock()
	const sent = 300
	for i := range sent {
		id := fmt.Sprintf("%032x", i)
		m := &postquantum.Message{Mode: postquantum.Strict, Can: []string{"mlkem768"}, Uses: id, Offer: &postquantum.Offer{ID: id, Mechanism: "mlkem768", Text: offer}}
		if i%3 == 0 {
			m.Offer.Text = offer[1:]
		}
		if i%5 == 0 {
			m.Answer = &postquantum.Answer{Offer: id, Name: id, Text: make([]byte, 1088)}
		}
		message, err := (&hello{Keys: m}).encode()
		if err != nil {
			t.Fatal(err)
		}
		box, err := seal.seal(message)
		if err != nil {
			t.Fatal(err)
		}
		a.paths.HandleSignal("evil", box)
	}
	a.inLoop(func(context.Context) {})
	w.mu.Lock()
	answered := w.sent - before
	w.mu.Unlock()
	if answered > sent {
		t.Errorf("%d messages for %d", answered, sent)
	}
	if !a.mixedFor(b).Equal(key) {
		t.Error("the key with another peer has changed")
	}
	a.ping(t, b)
}

// Either side replaces its WireGuard key: the secret is bound to the new one, and
// no packet is lost.
func TestRotationOfAStrictPairLosesNothing(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a, b := acquainted(t, w, opts)
	a.reaches(t, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	secret := a.secretWith(b)
	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	eventually(t, "packets flow", func() bool { return forth.received.Load() > 100 && back.received.Load() > 100 })
	for i := range 4 {
		one, other := a, b
		if i%2 == 1 {
			one, other = b, a
		}
		key := a.mixedFor(b)
		one.rotate(t, a, b)
		eventually(t, "the other side uses the new key", func() bool { return other.usesKey(one) })
		introduce(t, a, b)
		moved := forth.received.Load()
		eventually(t, "packets flow on", func() bool { return forth.received.Load() > moved+50 })
		one.paths.SetKeys(one.key, tunnel.PrivateKey{})
		if a.mixedFor(b).Equal(key) {
			t.Error("the pre-shared key is not bound to the keys of WireGuard")
		}
	}
	forth.stop()
	back.stop()
	agrees(t, a, b)
	if a.secretWith(b) != secret {
		t.Error("a rotation cost an exchange")
	}
	t.Logf("%d and %d packets, none lost", forth.sent.Load(), back.sent.Load())
}

func (m *machine) secretWith(peer *machine) (secret *postquantum.Secret) {
	m.inLoop(func(context.Context) { secret = m.paths.byID[peer.id].keys.Secret() })
	return secret
}

// The secret is renewed while packets flow: the session lives on, and the next
// one takes the new key.
func TestRenewalLosesNothing(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a, b := acquainted(t, w, opts)
	a.reaches(t, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	const renewals = 3
	for range renewals {
		former := a.secretWith(b)
		for m, other := range map[*machine]*machine{a: b, b: a} {
			m.inLoop(func(ctx context.Context) { // as after hours
				pr := m.paths.byID[other.id]
				pr.keys.Step(time.Now().Add(24*time.Hour), postquantum.Use{Session: true, Traffic: true})
				m.paths.sendKeys(ctx, pr)
			})
		}
		eventually(t, "both use another secret", func() bool {
			one, other := a.mixedFor(b), b.mixedFor(a)
			return a.secretWith(b) != former && one.Equal(other)
		})
		moved := forth.received.Load()
		eventually(t, "packets flow on", func() bool { return forth.received.Load() > moved+50 })
	}
	agrees(t, a, b) // the session that began with the first secret is a post-quantum one all the time
	a.paths.cfg.Rekey(b.key.Public())
	moved := back.received.Load()
	eventually(t, "packets flow in a session with the newest", func() bool { return back.received.Load() > moved+50 })
	forth.stop()
	back.stop()
	t.Logf("%d and %d packets in %d renewals, none lost", forth.sent.Load(), back.sent.Load(), renewals)
}

// An idle pair exchanges nothing, and what it agreed on serves the next packet.
func TestIdlePairKeepsItsSecret(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict, idle: 300 * time.Millisecond}
	a, b := acquainted(t, w, opts)
	a.ping(t, b)
	agrees(t, a, b)
	secret := a.secretWith(b)
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, m.id+" is asleep", func() bool { s, _ := m.paths.Status(other); return s.Path == PathIdle })
	}
	a.ping(t, b)
	if a.secretWith(b) != secret {
		t.Error("waking up cost an exchange")
	}
}

// Everything that may be said at once fits into one message.
func TestFullHelloFits(t *testing.T) {
	x := postquantum.New(postquantum.Strict, postquantum.MLKEM{})
	x.Step(time.Now(), postquantum.Use{})
	h := &hello{Session: newSession(), Answers: newSession(), Ufrag: newSession(), Password: newSession(), Keys: x.Message(), Access: AccessBlocked}
	for range maximumCandidates {
		line, err := reflexiveCandidate(longestAddress, 65535)
		if err != nil {
			t.Fatal(err)
		}
		h.Candidates = append(h.Candidates, line)
	}
	h.Relayed = longestAddress
	message, err := h.encode()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := newSealer(tunnel.GenerateKey(), tunnel.GenerateKey().Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.seal(message)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d bytes", len(box), MaximumBox)
	if h, err := decodeHello(message); err != nil || h.Keys.Offer == nil {
		t.Errorf("%+v, %v", h, err)
	}
}

var longestAddress = netip.MustParseAddrPort("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
