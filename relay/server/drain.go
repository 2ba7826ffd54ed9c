package server

import (
	"time"

	"github.com/pion/stun/v2"
)

// drainLook is how often a relay that stops looks whether everybody has left;
// drainRepeat is how often it tells those who have not, since a datagram may be
// lost.
const (
	drainLook   = 50 * time.Millisecond
	drainRepeat = 500 * time.Millisecond
)

// drain gives clients time to move to another relay: it refuses allocations
// and refreshes with 508, and sends each client a Binding indication, on which
// agents refresh at once and so hear of it. Data flows on. It returns when
// nobody is left, or after limit.
func (s *Server) drain(limit time.Duration) {
	if limit <= 0 {
		return
	}
	s.gate.draining.Store(true)
	left := s.announce()
	s.logger.Info("relay stops: clients may move to another", "allocations", left, "limit", limit.String())
	told := time.Now()
	deadline := told.Add(limit)
	for s.stats.allocations.Load() > 0 && time.Now().Before(deadline) {
		time.Sleep(drainLook)
		if time.Since(told) >= drainRepeat {
			told = time.Now()
			s.announce()
		}
	}
}

// announce sends every client an indication and returns how many there are.
func (s *Server) announce() (clients int) {
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication), stun.Fingerprint)
	if err != nil {
		return 0
	}
	f := newForwarder(s.gate)
	f.begin()
	for i := range s.ledger.sockets {
		socket := s.ledger.sockets[i].Load()
		if socket == nil {
			continue
		}
		if a := socket.owner.Load(); a != nil {
			f.toClient(a, nil, m.Raw)
			clients++
		}
	}
	f.flush()
	return clients
}
