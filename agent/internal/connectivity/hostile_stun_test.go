package connectivity

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// stranger is where nobody of the network is.
var stranger = netip.MustParseAddrPort("192.0.2.66:6666")

// hostileSTUN is what somebody may send who knows a lot: the tag of a's prober for
// b, the username fragment of an attempt, and the transaction that waits.
func hostileSTUN(t testing.TB, tag, ufrag string, waiting [stun.TransactionIDSize]byte) [][]byte {
	t.Helper()
	id := stun.NewTransactionIDSetter(waiting)
	bomb := make([]stun.Setter, 0, 400)
	for range cap(bomb) {
		bomb = append(bomb, stun.RawAttribute{Type: stun.AttrUsername})
	}
	messages := [][]stun.Setter{
		{stun.BindingRequest, stun.TransactionID},
		{stun.BindingRequest, stun.TransactionID, stun.NewUsername(probePrefix)},
		{stun.BindingRequest, stun.TransactionID, stun.NewUsername(probePrefix + tag), stun.NewSoftware("wattle 00000000000000ff direct")},
		{stun.BindingRequest, stun.TransactionID, stun.NewUsername(probePrefix + tag), padded{8000}, stun.MessageIntegrity("guessed")},
		{stun.BindingRequest, stun.TransactionID, stun.NewUsername(ufrag + ":x"), stun.MessageIntegrity("guessed"), stun.Fingerprint},
		{stun.BindingSuccess, id, &stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 66), Port: 6666}},
		{stun.BindingSuccess, id, stun.MessageIntegrity("guessed"), stun.Fingerprint},
		{stun.BindingError, id, stun.CodeUnauthorized},
		{stun.NewType(stun.MethodBinding, stun.ClassIndication), id},
		{stun.NewType(stun.MethodData, stun.ClassIndication), stun.TransactionID, stun.RawAttribute{Type: stun.AttrXORPeerAddress, Value: make([]byte, 20)}},
		{stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse), id, stun.RawAttribute{Type: stun.AttrXORRelayedAddress, Value: []byte{0, 1, 0, 0}}},
		append([]stun.Setter{stun.BindingRequest, stun.TransactionID}, bomb...),
	}
	var raws [][]byte
	for _, with := range messages {
		m, err := stun.Build(with...)
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, m.Raw)
	}
	short := bytes.Clone(raws[2]) // an attribute longer than the message
	short[stunHeader+2] = 0xff
	return append(raws, short)
}

const stunHeader = 20 // bytes (RFC 8489, section 5)

// FuzzSTUN gives messages from anywhere to a machine with a path in use. Nothing
// panics, little is kept, and the path stays what it is.
func FuzzSTUN(f *testing.F) {
	w := newWire()
	a := newMachine(f, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(f, w, "b", "10.77.0.2", machineOptions{})
	introduce(f, a, b)
	a.reaches(f, b)
	a.onPath(f, b, PathDirect)
	var tag, ufrag string
	a.inLoop(func(context.Context) {
		pr := a.paths.byID["b"]
		tag = pr.seal.peerTag
		if pr.attempt != nil {
			ufrag = pr.attempt.ufrag
		}
	})
	var waiting [stun.TransactionIDSize]byte
	_, _ = rand.Read(waiting[:])
	for _, raw := range hostileSTUN(f, tag, ufrag, waiting) {
		f.Add(raw, false)
		f.Add(raw, true)
	}
	relay := a.device.Bind().OpenRelay(stranger, nil)
	f.Cleanup(func() { _ = relay.Close() })
	f.Fuzz(func(t *testing.T, raw []byte, relayed bool) {
		from := tunnel.STUNMessage{Payload: raw, Addr: stranger}
		if relayed {
			from = tunnel.STUNMessage{Payload: raw, Relay: relay}
		}
		answer := make(chan *stun.Message, 1)
		a.paths.transactions.mu.Lock()
		a.paths.transactions.pending[waiting] = answer
		a.paths.transactions.mu.Unlock()
		a.paths.sortSTUN(from)
		a.inLoop(func(context.Context) {
			pr := a.paths.byID["b"]
			if len(a.paths.pairs) != 1 || pr.direct == nil || pr.direct.Addr() == stranger || pr.relayed == stranger {
				t.Errorf("%d pairs, path %s, relayed address %s", len(a.paths.pairs), pr.direct, pr.relayed)
			}
		})
	})
}

// TestFloodOfProbesIsBounded sends many probes of nobody while the loop is busy:
// what waits for it stays small.
func TestFloodOfProbesIsBounded(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.reaches(t, b)
	busy, free := make(chan struct{}), make(chan struct{})
	a.paths.post(func(context.Context) { close(busy); <-free })
	<-busy
	for range 10_000 {
		var tag [probeTagSize]byte
		_, _ = rand.Read(tag[:])
		m, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername(probePrefix+hex.EncodeToString(tag[:])))
		if err != nil {
			t.Fatal(err)
		}
		a.paths.sortSTUN(tunnel.STUNMessage{Payload: m.Raw, Addr: stranger})
	}
	a.paths.mailbox.state.mu.Lock()
	waiting := len(a.paths.mailbox.state.work)
	a.paths.mailbox.state.mu.Unlock()
	close(free)
	if waiting > 200 { // what the pair itself has to do included
		t.Errorf("%d probes of nobody wait for the loop", waiting)
	}
	a.reaches(t, b)
}

// TestHostileSTUNLeavesThePath sends the same from a socket of the network.
func TestHostileSTUNLeavesThePath(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.reaches(t, b)
	a.onPath(t, b, PathDirect)
	var tag, ufrag string
	a.inLoop(func(context.Context) {
		pr := a.paths.byID["b"]
		tag = pr.seal.peerTag
		if pr.attempt != nil {
			ufrag = pr.attempt.ufrag
		}
	})
	from := blackhole(t)
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.device.Bind().Port()))
	for range 20 {
		for _, raw := range hostileSTUN(t, tag, ufrag, [stun.TransactionIDSize]byte{}) {
			if _, err := from.WriteTo(raw, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.reaches(t, b)
	if s, _ := a.paths.Status("b"); s.Path != PathDirect || s.Remote == from.LocalAddr().String() {
		t.Errorf("%+v", s)
	}
}
