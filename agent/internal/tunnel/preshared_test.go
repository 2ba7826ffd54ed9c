package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// mixed is two devices that know each other, each at the address of its place.
type mixed struct {
	keys    [2]PrivateKey
	devices [2]*Device
}

func newMixed(t *testing.T, required [2]bool) *mixed {
	t.Helper()
	m := &mixed{keys: [2]PrivateKey{GenerateKey(), GenerateKey()}}
	for i := range m.devices {
		m.devices[i] = newTestDevice(t, m.keys[i], address(i).String(), nil)
		m.set(t, i, required[i])
	}
	m.meet()
	return m
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}) }

// set gives a device its peer.
func (m *mixed) set(t *testing.T, i int, required bool) {
	t.Helper()
	settings := Settings{
		Addresses: []netip.Prefix{netip.PrefixFrom(address(i), 24)}, RequirePresharedKey: required,
		Peers: tableOf(peerAt(m.keys[1-i], address(1-i).String())),
	}
	if err := m.devices[i].Set(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
}

// meet gives the endpoints their paths.
func (m *mixed) meet() {
	for i, d := range m.devices {
		d.Bind().Endpoint(m.keys[1-i].Public()).Use(d.Bind().DirectPath(loopback(m.devices[1-i])), nil)
	}
}

func (m *mixed) agree(t *testing.T, i int, key PresharedKey) {
	t.Helper()
	if err := m.devices[i].SetPresharedKey(m.keys[i].Public(), m.keys[1-i].Public(), key); err != nil {
		t.Fatal(err)
	}
}

func (m *mixed) ping(t *testing.T, from int, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := m.devices[from].Ping(ctx, address(1-from))
	return err
}

// Patience of a ping that must arrive, and of one that must not.
const (
	arrives = 10 * time.Second
	absent  = 300 * time.Millisecond
)

func (m *mixed) flows(t *testing.T, from int) {
	t.Helper()
	if err := m.ping(t, from, arrives); err != nil {
		t.Fatal(err)
	}
}

func TestPresharedKeysOfBothSidesMustBeEqual(t *testing.T) {
	m := newMixed(t, [2]bool{})
	key := randomPresharedKey()
	m.agree(t, 0, key)
	if err := m.ping(t, 0, absent); err == nil {
		t.Error("a session began although one side knows no key")
	}
	m.agree(t, 1, key)
	m.devices[0].Rekey(m.keys[1].Public()) // WireGuard waits 5 s after a failure
	m.flows(t, 0)
}

func TestNewPresharedKeyActsAtTheNextHandshake(t *testing.T) {
	m := newMixed(t, [2]bool{})
	m.flows(t, 0)
	began := m.lastHandshake(t, 0)
	m.agree(t, 0, randomPresharedKey()) // the other side has none: a handshake would fail
	for range 3 {
		m.flows(t, 0)
		m.flows(t, 1)
	}
	if again := m.lastHandshake(t, 0); again != began {
		t.Errorf("the session of %v was replaced at %v", began, again)
	}
	m.devices[0].Rekey(m.keys[1].Public())
	if err := m.ping(t, 0, absent); err == nil {
		t.Error("the key does not act at the next handshake")
	}
}

func (m *mixed) lastHandshake(t *testing.T, i int) time.Time {
	t.Helper()
	stats, err := m.devices[i].Stats()
	if err != nil {
		t.Fatal(err)
	}
	return stats[m.keys[1-i].Public()].LastHandshake
}

func TestNothingFlowsWithoutARequiredKey(t *testing.T) {
	for _, required := range [][2]bool{{true, true}, {true, false}} {
		t.Run(fmt.Sprint(required), func(t *testing.T) {
			m := newMixed(t, required)
			for from := range m.devices {
				if err := m.ping(t, from, absent); err == nil {
					t.Errorf("machine %d reaches the other", from)
				}
			}
			key := randomPresharedKey()
			m.agree(t, 0, key)
			m.agree(t, 1, key)
			m.devices[1].Rekey(m.keys[0].Public())
			m.devices[1].Handshake(m.keys[0].Public())
			m.flows(t, 0)
			m.flows(t, 1)

			m.agree(t, 0, PresharedKey{})
			m.devices[0].Rekey(m.keys[1].Public())
			if err := m.ping(t, 0, absent); err == nil {
				t.Error("a key that was withdrawn still begins sessions")
			}
		})
	}
}

func TestRequiringAKeyEndsSessionsWithout(t *testing.T) {
	m := newMixed(t, [2]bool{})
	m.flows(t, 0)
	before, err := m.devices[0].Stats()
	if err != nil {
		t.Fatal(err)
	}
	m.set(t, 0, true)
	for from := range m.devices {
		if err := m.ping(t, from, absent); err == nil {
			t.Errorf("machine %d reaches the other in the session of before", from)
		}
	}
	after, err := m.devices[0].Stats()
	if key := m.keys[1].Public(); err != nil || after[key].SentBytes < before[key].SentBytes {
		t.Errorf("counters %+v were lost: %+v, %v", before[key], after[key], err)
	}
	m.set(t, 0, false)
	m.devices[0].Rekey(m.keys[1].Public())
	m.flows(t, 0)
}

// refusing is a device that takes no configuration for a while.
type refusing struct {
	wireguard
	refuses bool
}

func (r *refusing) IpcSet(text string) error {
	if r.refuses {
		return errors.New("refused")
	}
	return r.wireguard.IpcSet(text)
}

// A device that cannot be told that keys are required lets nobody in who is new,
// and ends what stands as soon as it can.
func TestRequiringAKeyIsTriedAgain(t *testing.T) {
	m := newMixed(t, [2]bool{})
	m.flows(t, 0)
	d := m.devices[0]
	device := &refusing{wireguard: d.wg, refuses: true}
	d.wg = device
	settings := Settings{RequirePresharedKey: true, Addresses: []netip.Prefix{netip.PrefixFrom(address(0), 24)}, Peers: tableOf(peerAt(m.keys[1], address(1).String()))}
	if err := d.Set(t.Context(), settings); err == nil {
		t.Fatal("the failure was not told")
	}
	if key, agreed := d.mixing.key(GenerateKey().Public()); agreed || key.IsZero() {
		t.Error("a new peer would be let in")
	}
	device.refuses = false
	m.set(t, 0, true)
	for from := range m.devices {
		if err := m.ping(t, from, absent); err == nil {
			t.Errorf("machine %d reaches the other in the session of before", from)
		}
	}
}

// A peer that could not be taken out of the device leaves it with the next
// change that the device takes.
func TestRemovalIsTriedAgain(t *testing.T) {
	m := newMixed(t, [2]bool{})
	m.flows(t, 0)
	d := m.devices[0]
	device := &refusing{wireguard: d.wg, refuses: true}
	d.wg = device
	settings := Settings{Addresses: []netip.Prefix{netip.PrefixFrom(address(0), 24)}}
	if err := d.Set(t.Context(), settings); err == nil {
		t.Fatal("the failure was not told")
	}
	device.refuses = false
	if err := d.Set(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	text, err := d.wg.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "public_key=") {
		t.Errorf("the peer is still in the device:\n%s", text)
	}
}

func TestRequiringAKeyLeavesAgreedSessions(t *testing.T) {
	m := newMixed(t, [2]bool{})
	key := randomPresharedKey()
	m.agree(t, 0, key)
	m.agree(t, 1, key)
	m.flows(t, 0)
	began := m.lastHandshake(t, 0)
	m.set(t, 0, true)
	m.flows(t, 1)
	if again := m.lastHandshake(t, 0); again != began {
		t.Errorf("the session of %v was replaced at %v", began, again)
	}
}

// What was agreed for the next key of a machine acts the moment it is used.
func TestSetKeyTakesPresharedKeysAlong(t *testing.T) {
	m := newMixed(t, [2]bool{true, true})
	next := GenerateKey()
	now, then := randomPresharedKey(), randomPresharedKey()
	m.agree(t, 0, now)
	m.agree(t, 1, now)
	if err := m.devices[0].SetPresharedKey(next.Public(), m.keys[1].Public(), then); err != nil {
		t.Fatal(err)
	}
	m.flows(t, 0)

	changing := peerAt(m.keys[0], address(0).String())
	changing.NextKey = next.Public()
	other := Settings{
		Addresses: []netip.Prefix{netip.PrefixFrom(address(1), 24)}, RequirePresharedKey: true,
		Peers: tableOf(changing),
	}
	if err := m.devices[1].Set(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := m.devices[1].SetPresharedKey(m.keys[1].Public(), next.Public(), then); err != nil {
		t.Fatal(err)
	}
	m.devices[1].Bind().Endpoint(next.Public()).Use(m.devices[1].Bind().DirectPath(loopback(m.devices[0])), nil)
	if err := m.devices[0].SetKey(next); err != nil {
		t.Fatal(err)
	}
	m.flows(t, 0)
}

func TestPresharedKeyOfAStranger(t *testing.T) {
	d := newTestDevice(t, GenerateKey(), "10.9.0.1", nil)
	if err := d.SetPresharedKey(d.bind.PublicKey(), GenerateKey().Public(), randomPresharedKey()); err != nil {
		t.Error(err)
	}
	if len(d.mixing.agreed) != 0 {
		t.Error("the key of a machine that is not in the map was kept")
	}
}

func TestPresharedKeysAreForgottenWithTheirPeers(t *testing.T) {
	m := newMixed(t, [2]bool{})
	m.agree(t, 0, randomPresharedKey())
	if err := m.devices[0].Set(t.Context(), Settings{}); err != nil {
		t.Fatal(err)
	}
	if d := m.devices[0]; len(d.mixing.agreed)+len(d.mixing.told) != 0 {
		t.Errorf("%d and %d keys are left", len(d.mixing.agreed), len(d.mixing.told))
	}
}

func TestPresharedKeyIsNotPrinted(t *testing.T) {
	key := NewPresharedKey([KeySize]byte([]byte("0123456789abcdef0123456789abcdef")))
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", key)
	fmt.Fprintf(&out, "%v %+v %#v %x %s %d", key, key, key, key, key, []PresharedKey{key})
	if bytes.Contains(out.Bytes(), []byte("0123")) || bytes.Contains(out.Bytes(), []byte("3031")) || bytes.Contains(out.Bytes(), []byte("48 49")) {
		t.Errorf("a pre-shared key was printed: %s", out.String())
	}
}
