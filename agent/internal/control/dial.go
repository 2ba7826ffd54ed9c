package control

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// A dialer opens connections to the control plane. When its name cannot be
// resolved it goes where it was last.
type dialer struct {
	names *net.Resolver // nil: the system's

	mu   sync.Mutex        // guards last
	last map[string]string // what answered, by the address that was asked for
}

func newDialer(names *net.Resolver) *dialer {
	return &dialer{names: names, last: map[string]string{}}
}

// DialContext opens a connection.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	plain := net.Dialer{Timeout: dialTimeout, Control: mark.Socket, Resolver: d.names}
	conn, err := plain.DialContext(ctx, network, address)
	if err == nil {
		d.mu.Lock()
		d.last[address] = conn.RemoteAddr().String()
		d.mu.Unlock()
		return conn, nil
	}
	if _, unresolved := errors.AsType[*net.DNSError](err); !unresolved {
		return nil, err
	}
	d.mu.Lock()
	last, known := d.last[address]
	d.mu.Unlock()
	if !known {
		return nil, err
	}
	conn, again := plain.DialContext(ctx, network, last)
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return conn, nil
}
