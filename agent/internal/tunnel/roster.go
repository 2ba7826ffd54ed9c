package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/tun"
)

// Choices of ours.
const (
	// retireAfter is how long a peer without a path stays in the device. After
	// 180 s no session with it can live (Reject-After-Time of WireGuard), so
	// nothing is lost with it.
	retireAfter = 3 * time.Minute

	// retireLook is how often that is looked at while the device has a peer.
	retireLook = time.Minute

	// admitLimit is how long a handshake waits for its sender to become active,
	// which takes some 100 us.
	admitLimit = 100 * time.Millisecond
)

// A roster is every peer that the machine may meet. The device itself has only
// those that have something to do: each costs it two goroutines and queues, some
// 30 KiB, and a network has thousands.
//
//	known --a packet to it, its handshake--> active --no path for 3 min--> known
//
// The packet or message that makes a peer active waits for that, some 100 us,
// and goes on as if the device had always had it.
type roster struct {
	changes atomic.Uint64 // counts changes that make a cached answer wrong
	whole   bool          // every peer is active: an idle one costs the device nothing

	mu       sync.RWMutex // guards all below
	members  map[PublicKey]*member
	owners   map[netip.Prefix]*member
	lengths4 []int // of the prefixes in owners, the longest first
	lengths6 []int
}

// A member is one peer of the roster.
type member struct {
	peer     Peer
	active   atomic.Bool
	endpoint atomic.Pointer[Endpoint] // nil until it is active for the first time
	past     Stats                    // counted before it was retired; guarded by Device.mu
}

func newRoster() *roster { return &roster{members: make(map[PublicKey]*member)} }

// set makes peers the ones that are known. It returns an error and changes
// nothing when a peer has no key or two have the same prefix.
func (r *roster) set(peers []Peer) error {
	members := make(map[PublicKey]*member, len(peers))
	owners := make(map[netip.Prefix]*member, 2*len(peers))
	lengths4, lengths6 := map[int]bool{}, map[int]bool{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range peers {
		if p.PublicKey.IsZero() {
			return fmt.Errorf("peer with allowed IPs %v has no public key", p.AllowedIPs)
		}
		m := &member{peer: p}
		if former := r.members[p.PublicKey]; former != nil {
			m.past = former.past
			m.active.Store(former.active.Load())
			m.endpoint.Store(former.endpoint.Load())
		}
		members[p.PublicKey] = m
		for _, prefix := range p.AllowedIPs {
			prefix = prefix.Masked()
			if other, taken := owners[prefix]; taken {
				return fmt.Errorf("allowed IP %s belongs to both %s and %s", prefix, other.peer.PublicKey, p.PublicKey)
			}
			owners[prefix] = m
			if prefix.Addr().Is4() {
				lengths4[prefix.Bits()] = true
			} else {
				lengths6[prefix.Bits()] = true
			}
		}
	}
	r.members, r.owners = members, owners
	r.lengths4, r.lengths6 = descending(lengths4), descending(lengths6)
	r.changes.Add(1)
	return nil
}

func descending(lengths map[int]bool) []int {
	list := slices.Sorted(maps.Keys(lengths))
	slices.Reverse(list)
	return list
}

// active returns the peers that belong into the device.
func (r *roster) active() []Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []Peer
	for _, m := range r.members {
		if m.active.Load() || r.whole {
			list = append(list, m.peer)
		}
	}
	return list
}

// past returns the counters of peers that were retired.
func (r *roster) past() map[PublicKey]Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := map[PublicKey]Stats{}
	for key, m := range r.members {
		if m.past != (Stats{}) {
			list[key] = m.past
		}
	}
	return list
}

func (r *roster) member(key PublicKey) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members[key]
}

// owner returns the peer that packets to addr go to, as the device chooses: by
// the longest prefix. Nil when there is none.
func (r *roster) owner(addr netip.Addr) *member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	lengths := r.lengths6
	if addr.Is4() {
		lengths = r.lengths4
	}
	for _, bits := range lengths {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			return nil
		}
		if m := r.owners[prefix]; m != nil {
			return m
		}
	}
	return nil
}

// admit activates the sender of a handshake before the device sees the message.
// The goroutine that reads a socket calls it, and a device that is being closed
// waits for that one: so it does not wait without a limit in its turn.
func (d *Device) admit(key PublicKey) {
	m := d.roster.member(key)
	if m == nil || m.active.Load() {
		return
	}
	done := make(chan struct{})
	d.admitting.Go(func() {
		defer close(done)
		d.activate(key)
	})
	limit := time.NewTimer(admitLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C: // the peer repeats its message
	}
}

// activate puts a known peer into the device; nothing happens when it is there
// or unknown. Close must not hold mu while it waits for the goroutine that
// reads the interface, which calls it.
func (d *Device) activate(key PublicKey) {
	m := d.roster.member(key)
	if m == nil || m.active.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m = d.roster.member(key)
	if d.closed || m == nil || m.active.Load() {
		return
	}
	m.endpoint.Store(d.bind.Endpoint(key))
	m.active.Store(true)
	if err := d.configure(); err != nil {
		m.active.Store(false)
		d.log.Warn("peer not added to the device", "error", err.Error())
	}
}

// configure gives the device the active peers. The caller holds mu.
func (d *Device) configure() error {
	next := d.roster.active()
	change, err := diffPeers(d.configured, next)
	if err != nil {
		return err
	}
	// A new peer has its pre-shared key before anything else.
	change = d.mixing.change(next, d.configured != nil) + change
	if change != "" {
		if err := d.wg.IpcSet(change); err != nil {
			d.configured = nil // unknown: the next call states everything
			clear(d.mixing.told)
			return fmt.Errorf("set the peers of the WireGuard device: %w", err)
		}
	}
	d.configured = next
	d.mixing.note(next)
	if len(next) > 0 && d.look == nil && !d.roster.whole {
		d.look = time.AfterFunc(retireLook, d.retireIdle)
	}
	return nil
}

// retireIdle takes peers without a path out of the device.
func (d *Device) retireIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look = nil
	if d.closed {
		return
	}
	var idle []*member
	for _, p := range d.configured {
		if m := d.roster.member(p.PublicKey); m != nil && d.bind.Endpoint(p.PublicKey).dormant(retireAfter) {
			idle = append(idle, m)
		}
	}
	if err := d.retire(idle); err != nil {
		d.log.Warn("idle peers stay in the device", "error", err.Error())
	}
	if len(d.configured) > 0 {
		d.look = time.AfterFunc(retireLook, d.retireIdle)
	}
}

// retire takes members out of the device and keeps their counters. The caller holds mu.
func (d *Device) retire(idle []*member) error {
	if len(idle) == 0 {
		return nil
	}
	counted, err := d.counters()
	if err != nil {
		return err
	}
	for _, m := range idle {
		m.active.Store(false)
	}
	d.roster.changes.Add(1)
	if err := d.configure(); err != nil {
		return err
	}
	for _, m := range idle {
		m.past = m.past.plus(counted[m.peer.PublicKey])
	}
	return nil
}

// counters asks the device itself.
func (d *Device) counters() (map[PublicKey]Stats, error) {
	text, err := d.wg.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("read the WireGuard device: %w", err)
	}
	return parseStats(text)
}

// plus adds what was counted later.
func (s Stats) plus(later Stats) Stats {
	if !later.LastHandshake.IsZero() {
		s.LastHandshake = later.LastHandshake
	}
	s.ReceivedBytes += later.ReceivedBytes
	s.SentBytes += later.SentBytes
	return s
}

// waking makes the peers active that the packets of an interface are for, and
// refuses packets that are too large for the path of their peer. One goroutine
// of the device reads.
type waking struct {
	tun.Device
	roster   *roster
	activate func(PublicKey)
	sender   tun.Device // the interface itself: its answers pass no filter
	refusals *rate.Limiter

	last     netip.Addr // destination of the last packet: its peer is active, or there is none
	endpoint *Endpoint  // of that peer; nil: there is none
	changes  uint64     // of the roster at that time
}

// Read implements tun.Device.
func (w *waking) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := w.Device.Read(bufs, sizes, offset)
	changes := w.roster.changes.Load()
	for i := range n {
		packet := bufs[i][offset : offset+sizes[i]]
		to, failure := destination(packet)
		if failure != nil {
			continue
		}
		if to != w.last || changes != w.changes {
			w.endpoint = w.wake(to)
			w.last, w.changes = to, changes
		}
		if w.refuse(packet) {
			sizes[i] = 0 // the device skips it
		}
	}
	return n, err
}

// wake makes the peer active that packets to addr go to, and returns its endpoint.
func (w *waking) wake(addr netip.Addr) *Endpoint {
	m := w.roster.owner(addr)
	if m == nil {
		return nil
	}
	if !m.active.Load() {
		w.activate(m.peer.PublicKey)
	}
	return m.endpoint.Load()
}

var errNoPacket = errors.New("not an IP packet")

// destination returns where an IP packet goes (RFC 791, section 3.1; RFC 8200,
// section 3).
func destination(packet []byte) (netip.Addr, error) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20])), nil
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40])), nil
	}
	return netip.Addr{}, errNoPacket
}
