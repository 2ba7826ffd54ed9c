package server

import (
	"cmp"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Constants of RFC 8656; pion/turn has the same.
const (
	permissionLifetime = 5 * time.Minute  // section 9
	channelLifetime    = 10 * time.Minute // section 12

	firstChannel = 0x4000 // section 12
	lastChannel  = 0x4FFF
)

// maxPermissions bounds what one client may ask the relay to remember besides
// its channels.
const maxPermissions = 1024

// relayClock counts from the start of the program, so that an instant is one
// word that can be read without a lock.
var relayClock = time.Now()

// An instant is nanoseconds of relayClock.
type instant = int64

func now() instant { return int64(time.Since(relayClock)) }

// A channel is a number that stands for a peer (RFC 8656, section 12).
type channel struct {
	number uint16
	peer   netip.AddrPort
	until  atomic.Int64
}

// bindings are the channels and permissions of one allocation, as pion/turn has
// granted them. Readers take a view, which is never changed but for its expiries.
type bindings struct {
	mu     sync.Mutex // of writers; guards pruned, ended
	pruned instant
	ended  bool
	view   atomic.Pointer[view]
}

// pruneEvery is how often an allocation that goes on forgets what has expired.
const pruneEvery = instant(time.Minute)

type view struct {
	byNumber  map[uint16]*channel
	byPeer    map[netip.AddrPort]*channel
	permitted map[netip.Addr]*atomic.Int64 // until
}

var noBindings view

func (b *bindings) load() *view {
	if v := b.view.Load(); v != nil {
		return v
	}
	return &noBindings
}

// channel returns the channel of a number, nil when none is bound.
func (v *view) channel(number uint16, at instant) *channel {
	if c := v.byNumber[number]; c != nil && at < c.until.Load() {
		return c
	}
	return nil
}

// numberOf returns the channel bound to a peer, 0 when there is none.
func (v *view) numberOf(peer netip.AddrPort, at instant) uint16 {
	if c := v.byPeer[peer]; c != nil && at < c.until.Load() {
		return c.number
	}
	return 0
}

// permits reports whether packets from addr are let in (RFC 8656, section 9).
func (v *view) permits(addr netip.Addr, at instant) bool {
	until := v.permitted[addr]
	return until != nil && at < until.Load()
}

// A grant is what a request asks for and pion's answer confirms.
type grant struct {
	to      *allocation
	channel uint16 // 0: permissions only
	peers   []netip.AddrPort
}

// apply installs or prolongs what was granted.
func (g *grant) apply(at instant) {
	b := &g.to.bindings
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	next := &changing{from: b.load(), at: at}
	for _, peer := range g.peers {
		next.permit(peer.Addr())
		if g.channel != 0 {
			next.bind(g.channel, peer)
		}
	}
	g.to.change(next)
}

// change makes what has changed the view of a and counts its channels. Called
// with bindings.mu held.
func (a *allocation) change(next *changing) {
	if next.to == nil {
		return
	}
	more := int64(len(next.to.byNumber) - len(a.bindings.load().byNumber))
	for _, use := range a.uses {
		use.channels.Add(more)
	}
	a.bindings.view.Store(next.to)
}

// prune forgets what has expired, so that it does not count as held.
func (a *allocation) prune(at instant) {
	b := &a.bindings
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || at-b.pruned < pruneEvery {
		return
	}
	b.pruned = at
	next := &changing{from: b.load(), at: at}
	next.copy()
	a.change(next)
}

// end refuses further changes and returns how many channels there were.
func (b *bindings) end() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	return int64(len(b.load().byNumber))
}

// room returns a quotaError when the allocation may not remember more peers.
func (g *grant) room(at instant) *quotaError {
	v := g.to.bindings.load()
	if g.channel == 0 {
		return g.roomToPermit(v, at)
	}
	if known := v.channel(g.channel, at); known != nil && known.peer == g.peers[0] {
		return nil // it is kept
	}
	var full *quotaError
	for _, use := range g.to.uses {
		full = cmp.Or(full, use.bind())
	}
	return full
}

func (g *grant) roomToPermit(v *view, at instant) *quotaError {
	if len(v.permitted)+len(g.peers) <= maxPermissions {
		return nil
	}
	standing := 0
	for _, until := range v.permitted {
		if at < until.Load() {
			standing++
		}
	}
	if standing+len(g.peers) > maxPermissions {
		return &quotaError{allocationPermissions, standing}
	}
	return nil
}

// changing is a view that is copied once something in it has to change.
type changing struct {
	from, to *view
	at       instant
}

// copy makes the view to change; what has expired is left behind.
func (c *changing) copy() *view {
	if c.to != nil {
		return c.to
	}
	c.to = &view{
		byNumber:  make(map[uint16]*channel, len(c.from.byNumber)+1),
		byPeer:    make(map[netip.AddrPort]*channel, len(c.from.byPeer)+1),
		permitted: maps.Clone(c.from.permitted),
	}
	if c.to.permitted == nil {
		c.to.permitted = make(map[netip.Addr]*atomic.Int64)
	}
	for number, ch := range c.from.byNumber {
		if c.at < ch.until.Load() {
			c.to.byNumber[number], c.to.byPeer[ch.peer] = ch, ch
		}
	}
	maps.DeleteFunc(c.to.permitted, func(_ netip.Addr, until *atomic.Int64) bool { return until.Load() <= c.at })
	c.from = c.to
	return c.to
}

func (c *changing) permit(addr netip.Addr) {
	until := c.from.permitted[addr]
	if until == nil {
		until = &atomic.Int64{}
		c.copy().permitted[addr] = until
	}
	until.Store(c.at + int64(permissionLifetime))
}

func (c *changing) bind(number uint16, peer netip.AddrPort) {
	ch := c.from.byNumber[number]
	if ch == nil || ch.peer != peer {
		to := c.copy()
		if old := to.byNumber[number]; old != nil {
			delete(to.byPeer, old.peer) // pion had let it go a moment before us
		}
		if old := to.byPeer[peer]; old != nil {
			delete(to.byNumber, old.number)
		}
		ch = &channel{number: number, peer: peer}
		to.byNumber[number], to.byPeer[peer] = ch, ch
	}
	ch.until.Store(c.at + int64(channelLifetime))
}
