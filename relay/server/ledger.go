package server

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/wattlenet/wattle/relay/internal/batch"
)

var errClosing = errors.New("relay is closing")

// A fiveTuple names a client as TURN does (RFC 8656, section 2.2).
type fiveTuple struct {
	stream        bool // TCP; else UDP
	local, client netip.AddrPort
}

// An allocation passes two states in the ledger:
//
//	reserve ──────────> reserved ──claim──> claimed ──> closed
//	(request admitted)     │    (pion answered success)   ▲
//	                       └────────── settle ────────────┘
//	                          (pion answered anything else)
type allocation struct {
	tuple  fiveTuple
	holder Holder
	uses   []*usage // of the peer and of the account

	// Set when it is claimed, before anybody else can see it.
	socket  *relayedSocket // nil while reserved
	client  client
	relayed netip.AddrPort

	bindings bindings
	ended    atomic.Bool
}

// A client is where an allocation is reached: at a UDP address, from conn, or
// over a stream.
type client struct {
	conn   *batch.Conn // nil: a stream
	stream *stream
}

// A ledger knows who holds which allocation. pion/turn tells its hooks either
// the client or the relayed port, never both; the ledger joins them by reading
// the answers.
type ledger struct {
	quotas Quotas
	stats  *counters

	// clients are the claimed allocations; read for each batch of a client.
	clients *table
	// sockets by relayed port; read for each batch between two allocations.
	sockets [1 << 16]atomic.Pointer[relayedSocket]

	mu       sync.Mutex // guards tuples, peers, accounts, closing
	tuples   map[fiveTuple]*allocation
	peers    map[Holder]*usage
	accounts map[string]*usage
	closing  bool

	open sync.WaitGroup // one for each relayed socket
}

func newLedger(quotas Quotas, stats *counters) *ledger {
	quotas.Allocations = cmp.Or(quotas.Allocations, DefaultAllocations)
	quotas.PerPeer.Allocations = cmp.Or(quotas.PerPeer.Allocations, DefaultAllocationsPerPeer)
	quotas.PerPeer.Channels = cmp.Or(quotas.PerPeer.Channels, DefaultChannelsPerPeer)
	return &ledger{
		quotas: quotas, stats: stats, clients: newTable(),
		tuples: make(map[fiveTuple]*allocation), peers: make(map[Holder]*usage), accounts: make(map[string]*usage),
	}
}

// find returns the allocation of tuple, nil when there is none.
func (l *ledger) find(tuple fiveTuple) *allocation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tuples[tuple]
}

// reserve notes that holder is about to get an allocation for tuple. It
// returns a quotaError when he, his account or the relay has no more to give.
func (l *ledger) reserve(tuple fiveTuple, holder Holder) *quotaError {
	l.mu.Lock()
	defer l.mu.Unlock()
	if has := len(l.tuples); has >= l.quotas.Allocations {
		return &quotaError{relayAllocations, has}
	}
	peer, account := l.peers[holder], l.accounts[holder.Account]
	if peer == nil {
		peer = newUsage(l.quotas.PerPeer, ofPeer)
	}
	if account == nil {
		account = newUsage(l.quotas.PerAccount, ofAccount)
	}
	if err := cmp.Or(peer.allocate(), account.allocate()); err != nil {
		return err
	}
	peer.allocations++
	account.allocations++
	l.peers[holder], l.accounts[holder.Account] = peer, account
	l.tuples[tuple] = &allocation{tuple: tuple, holder: holder, uses: []*usage{peer, account}}
	return nil
}

// settle takes back the reservation of tuple if it was not claimed.
func (l *ledger) settle(tuple fiveTuple) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.tuples[tuple]; a != nil && a.socket == nil {
		l.remove(a)
	}
}

// claim joins the reservation of tuple with the socket that was opened for it,
// and returns the allocation. One that is claimed already stays as it is: its
// answer was repeated.
func (l *ledger) claim(tuple fiveTuple, port uint16, at client) *allocation {
	socket := l.sockets[port].Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.tuples[tuple]
	if a == nil || a.socket != nil || socket == nil {
		return a
	}
	a.socket, a.client, a.relayed = socket, at, netip.AddrPortFrom(socket.public, port)
	socket.owner.Store(a)
	l.clients.put(a)
	l.stats.allocations.Add(1)
	l.stats.allocationsMade.Add(1)
	return a
}

// neighbour returns the allocation at a relayed port that a may exchange
// packets with, nil when there is none: only those of one account meet.
func (l *ledger) neighbour(a *allocation, port uint16) *allocation {
	socket := l.sockets[port].Load()
	if socket == nil {
		return nil
	}
	other := socket.owner.Load()
	if other == nil || other.holder.Account != a.holder.Account || other.ended.Load() {
		return nil
	}
	return other
}

// remove is called with mu held.
func (l *ledger) remove(a *allocation) {
	delete(l.tuples, a.tuple)
	channels := a.bindings.end()
	for _, use := range a.uses {
		use.allocations--
		use.channels.Add(-channels)
	}
	if l.peers[a.holder].allocations == 0 {
		delete(l.peers, a.holder)
	}
	if l.accounts[a.holder.Account].allocations == 0 {
		delete(l.accounts, a.holder.Account)
	}
}

// add enters a socket that was just opened. After closeAll it refuses.
func (l *ledger) add(socket *relayedSocket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return errClosing
	}
	l.open.Add(1)
	l.sockets[socket.port].Store(socket)
	return nil
}

// drop is called once for each socket that was added, when it has closed.
func (l *ledger) drop(socket *relayedSocket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets[socket.port].CompareAndSwap(socket, nil)
	if a := socket.owner.Load(); a != nil {
		a.ended.Store(true)
		l.clients.remove(a)
		l.remove(a)
		l.stats.allocations.Add(-1)
	}
	l.open.Done()
}

// closeAll closes every relayed socket and waits until the last one is gone.
func (l *ledger) closeAll() error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	var errs []error
	for i := range l.sockets {
		if socket := l.sockets[i].Load(); socket != nil {
			errs = append(errs, socket.Close())
		}
	}
	l.open.Wait()
	return errors.Join(errs...)
}

// addrPort takes the address out of the types that net and pion use.
func addrPort(addr net.Addr) netip.AddrPort {
	var at netip.AddrPort
	switch a := addr.(type) {
	case *net.UDPAddr:
		at = a.AddrPort()
	case *net.TCPAddr:
		at = a.AddrPort()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
