package tunnel

import (
	"net"
	"reflect"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
)

// sockets is the standard bind, used so that it is right for both versions of IP.
//
// Its Send takes the memory for a destination from a pool, shortens it to 4
// bytes for IPv4, and copies into what has that length: after a packet over IPv4
// the next one over IPv6 keeps but the first 4 bytes of its destination, and
// goes to a stranger. So there are two values over the same two sockets, and
// each keeps to one version with a pool of its own.
type sockets struct{ now atomic.Pointer[twins] }

// twins are two values of the standard bind with the same sockets.
type twins struct {
	four *conn.StdNetBind // opens, receives, closes, and sends over IPv4
	six  *conn.StdNetBind // sends over IPv6; the same value while closed
}

var _ conn.Bind = (*sockets)(nil)

func newSockets() *sockets {
	s := &sockets{}
	closed := standardBind()
	s.now.Store(&twins{four: closed, six: closed})
	return s
}

// standardBind returns a bind that is not open and has not been used.
func standardBind() *conn.StdNetBind {
	return conn.NewStdNetBind().(*conn.StdNetBind) // what its name says, on every system
}

// Open implements conn.Bind.
func (s *sockets) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	if now := s.now.Load(); now.four != now.six {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	four := standardBind()
	fns, actual, err := four.Open(port)
	if err != nil {
		return nil, 0, err
	}
	// Nothing has been sent and nobody else has it yet: its pools are empty and
	// its lock is free, so a copy of the value is a second bind on these sockets.
	six := standardBind()
	reflect.ValueOf(six).Elem().Set(reflect.ValueOf(four).Elem())
	s.now.Store(&twins{four: four, six: six})
	return fns, actual, nil
}

// Close implements conn.Bind.
func (s *sockets) Close() error {
	four := s.now.Load().four
	s.now.Store(&twins{four: four, six: four})
	return four.Close()
}

// SetMark implements conn.Bind.
func (s *sockets) SetMark(mark uint32) error { return s.now.Load().four.SetMark(mark) }

// BatchSize implements conn.Bind.
func (s *sockets) BatchSize() int { return s.now.Load().four.BatchSize() }

// ParseEndpoint implements conn.Bind.
func (s *sockets) ParseEndpoint(text string) (conn.Endpoint, error) {
	return s.now.Load().four.ParseEndpoint(text)
}

// Send implements conn.Bind. While the sockets are closed it returns an error.
func (s *sockets) Send(bufs [][]byte, to conn.Endpoint) error {
	now := s.now.Load()
	if now.four == now.six {
		return net.ErrClosed
	}
	if to.DstIP().Is6() {
		return now.six.Send(bufs, to)
	}
	return now.four.Send(bufs, to)
}
