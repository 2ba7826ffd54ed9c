package server

import (
	"net"
)

// A datagramFront is the UDP listener that pion reads: it shows pion only
// what the gate lets pass. pion reads it from one goroutine and handles each
// message before it reads the next.
type datagramFront struct {
	*net.UDPConn
	gate *gate

	// reserved is the client whose reservation has to be settled before the
	// next message; owned by the reading goroutine.
	reserved *fiveTuple
}

// ReadFrom returns the next message that may pass.
func (f *datagramFront) ReadFrom(p []byte) (int, net.Addr, error) {
	if f.reserved != nil {
		f.gate.ledger.settle(*f.reserved)
		f.reserved = nil
	}
	for {
		n, addr, err := f.UDPConn.ReadFrom(p)
		if err != nil {
			return 0, nil, err
		}
		tuple := f.tuple(addr)
		verdict := f.gate.admit(p[:n], tuple)
		if verdict.pass {
			if verdict.reserved {
				f.reserved = &tuple
			}
			return n, addr, nil
		}
		if verdict.answer != nil {
			// The client repeats its request when this answer is lost.
			_, _ = f.UDPConn.WriteTo(verdict.answer, addr)
		}
	}
}

// WriteTo sends what pion answers or relays to a client.
func (f *datagramFront) WriteTo(p []byte, addr net.Addr) (int, error) {
	f.gate.observe(p, f.tuple(addr))
	return f.UDPConn.WriteTo(p, addr)
}

func (f *datagramFront) tuple(client net.Addr) fiveTuple {
	return fiveTuple{local: addrPort(f.LocalAddr()), client: addrPort(client)}
}
