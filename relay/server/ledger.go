package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

var (
	errQuotaReached = errors.New("allocation quota reached")
	errClosing      = errors.New("relay is closing")
)

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
	socket *relayedSocket // nil while reserved
}

// A ledger knows who holds which allocation. pion/turn tells its hooks either
// the client or the relayed port, never both; the ledger joins them by reading
// the answers.
type ledger struct {
	perHolder int
	total     int
	stats     *counters

	// sockets by relayed port; read for each packet between two allocations.
	sockets [1 << 16]atomic.Pointer[relayedSocket]

	mu      sync.Mutex // guards tuples, held, closing
	tuples  map[fiveTuple]*allocation
	held    map[Holder]int
	closing bool

	open sync.WaitGroup // one for each relayed socket
}

// find returns the allocation of tuple, nil when there is none.
func (l *ledger) find(tuple fiveTuple) *allocation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tuples[tuple]
}

// reserve notes that holder is about to get an allocation for tuple. It
// returns errQuotaReached when holder or the relay has no more to give.
func (l *ledger) reserve(tuple fiveTuple, holder Holder) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[holder] >= l.perHolder || len(l.tuples) >= l.total {
		return errQuotaReached
	}
	if l.tuples == nil {
		l.tuples, l.held = make(map[fiveTuple]*allocation), make(map[Holder]int)
	}
	l.tuples[tuple] = &allocation{tuple: tuple, holder: holder}
	l.held[holder]++
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

// claim joins the reservation of tuple with the socket that was opened for it.
// An allocation that is claimed already stays as it is: its answer was repeated.
func (l *ledger) claim(tuple fiveTuple, port uint16) {
	socket := l.sockets[port].Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.tuples[tuple]
	if a == nil || a.socket != nil || socket == nil {
		return
	}
	a.socket = socket
	socket.owner.Store(a)
	l.stats.allocations.Add(1)
	l.stats.allocationsMade.Add(1)
}

// remove is called with mu held.
func (l *ledger) remove(a *allocation) {
	delete(l.tuples, a.tuple)
	if l.held[a.holder]--; l.held[a.holder] == 0 {
		delete(l.held, a.holder)
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
