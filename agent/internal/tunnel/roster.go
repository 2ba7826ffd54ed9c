package tunnel

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
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
	awake    map[PublicKey]*member // those that are active
	owners   map[netip.Prefix]*member
	lengths4 lengths
	lengths6 lengths
}

// A member is one peer of the roster.
type member struct {
	peer     Peer
	active   atomic.Bool
	endpoint atomic.Pointer[Endpoint] // nil until it is active for the first time
	past     Stats                    // counted before it was retired; guarded by Device.mu
}

// lengths are those of the prefixes that have an owner.
type lengths struct {
	counts map[int]int
	list   []int // the longest first
}

// count notes that there are n more prefixes of a length.
func (l *lengths) count(bits, n int) {
	if l.counts == nil {
		l.counts = map[int]int{}
	}
	if l.counts[bits] += n; l.counts[bits] == 0 {
		delete(l.counts, bits)
	}
	if len(l.counts) != len(l.list) {
		l.list = slices.Sorted(maps.Keys(l.counts))
		slices.Reverse(l.list)
	}
}

func newRoster() *roster {
	return &roster{members: map[PublicKey]*member{}, awake: map[PublicKey]*member{}, owners: map[netip.Prefix]*member{}}
}

// replace lets peers go and takes others, or the same with other prefixes. It
// returns an error and changes nothing when a peer has no key or two would have
// the same prefix.
func (r *roster) replace(gone []PublicKey, put []Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	leaves := make(map[PublicKey]*member, len(gone)+len(put))
	for _, key := range gone {
		leaves[key] = r.members[key]
	}
	for _, p := range put {
		leaves[p.PublicKey] = r.members[p.PublicKey]
	}
	if err := r.check(leaves, put); err != nil {
		return err
	}
	for key, m := range leaves {
		if m == nil {
			continue
		}
		for _, prefix := range m.peer.AllowedIPs {
			delete(r.owners, prefix.Masked())
			r.lengths(prefix).count(prefix.Bits(), -1)
		}
		delete(r.members, key)
		delete(r.awake, key)
	}
	for _, p := range put {
		m := &member{peer: p}
		if former := leaves[p.PublicKey]; former != nil {
			m.past = former.past
			m.active.Store(former.active.Load())
			m.endpoint.Store(former.endpoint.Load())
		}
		if m.active.Load() {
			r.awake[p.PublicKey] = m
		}
		r.members[p.PublicKey] = m
		for _, prefix := range p.AllowedIPs {
			r.owners[prefix.Masked()] = m
			r.lengths(prefix).count(prefix.Bits(), 1)
		}
	}
	r.changes.Add(1)
	return nil
}

// check refuses peers that cannot stand beside those that stay.
func (r *roster) check(leaves map[PublicKey]*member, put []Peer) error {
	claimed := map[netip.Prefix]PublicKey{}
	for _, p := range put {
		if p.PublicKey.IsZero() {
			return fmt.Errorf("peer with allowed IPs %v has no public key", p.AllowedIPs)
		}
		for _, prefix := range p.AllowedIPs {
			prefix = prefix.Masked()
			other, taken := claimed[prefix]
			if owner := r.owners[prefix]; !taken && owner != nil {
				_, goes := leaves[owner.peer.PublicKey]
				other, taken = owner.peer.PublicKey, !goes
			}
			if taken {
				return fmt.Errorf("allowed IP %s belongs to both %s and %s", prefix, other, p.PublicKey)
			}
			claimed[prefix] = p.PublicKey
		}
	}
	return nil
}

func (r *roster) lengths(prefix netip.Prefix) *lengths {
	if prefix.Addr().Is4() {
		return &r.lengths4
	}
	return &r.lengths6
}

// setActive says whether a member belongs into the device.
func (r *roster) setActive(m *member, active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.active.Store(active)
	if active {
		r.awake[m.peer.PublicKey] = m
	} else {
		delete(r.awake, m.peer.PublicKey)
	}
}

// active returns the peers that belong into the device.
func (r *roster) active() []Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	those := r.awake
	if r.whole {
		those = r.members
	}
	list := make([]Peer, 0, len(those))
	for _, m := range those {
		list = append(list, m.peer)
	}
	return list
}

// activeOf returns those of some keys that belong into the device.
func (r *roster) activeOf(keys []PublicKey) []Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []Peer
	for _, key := range keys {
		if m := r.members[key]; m != nil && (m.active.Load() || r.whole) {
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
	lengths := r.lengths6.list
	if addr.Is4() {
		lengths = r.lengths4.list
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
	d.roster.setActive(m, true)
	if err := d.configure([]PublicKey{key}); err != nil {
		d.roster.setActive(m, false)
		d.log.Warn("peer not added to the device", "error", err.Error())
	}
}

// configure gives the device what it shall have of some peers. The caller holds
// mu.
func (d *Device) configure(keys []PublicKey) error {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b PublicKey) int { return bytes.Compare(a[:], b[:]) })
	keys = slices.Compact(keys)
	before, next := []Peer(nil), []Peer(nil)
	if d.unsure {
		clear(d.configured)
		clear(d.mixing.told)
		next = d.roster.active()
		// Who is in the device and no longer wanted has to leave by name.
		inside, err := d.counters()
		if err != nil {
			return err
		}
		for key := range inside {
			if !slices.ContainsFunc(next, func(p Peer) bool { return p.PublicKey == key }) {
				before = append(before, Peer{PublicKey: key})
			}
		}
	} else {
		next = d.roster.activeOf(keys)
		for _, key := range keys {
			if p, had := d.configured[key]; had {
				before = append(before, p)
			}
		}
	}
	change, err := diffPeers(before, next)
	if err != nil {
		return err
	}
	// A new peer has its pre-shared key before anything else.
	change = d.mixing.change(next, !d.unsure) + change
	d.unsure = true // until it is done
	if change != "" {
		if err := d.wg.IpcSet(change); err != nil {
			return fmt.Errorf("set the peers of the WireGuard device: %w", err)
		}
	}
	d.unsure = false
	for _, p := range before {
		delete(d.configured, p.PublicKey)
	}
	for _, p := range next {
		d.configured[p.PublicKey] = p
	}
	d.mixing.note(before, next)
	if len(d.configured) > 0 && d.look == nil && !d.roster.whole {
		d.look = time.AfterFunc(retireLook, d.retireIdle)
	}
	return nil
}

// configureAll gives the device anew what it shall have of the peers that it has.
// The caller holds mu.
func (d *Device) configureAll() error {
	return d.configure(slices.Collect(maps.Keys(d.configured)))
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
	var keys []PublicKey
	for _, m := range idle {
		d.roster.setActive(m, false)
		keys = append(keys, m.peer.PublicKey)
	}
	d.roster.changes.Add(1)
	if err := d.configure(keys); err != nil {
		return err
	}
	for _, m := range idle {
		m.past = m.past.With(counted[m.peer.PublicKey])
	}
	return nil
}
