package control

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// connections knows the open connections to the control plane, so that those
// of an address that the machine has lost end at once: TCP would wait for
// minutes for an answer that nobody can deliver.
type connections struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex // guards open
	open map[*connection]struct{}
}

type connection struct {
	net.Conn
	all *connections
}

func newConnections(dial func(ctx context.Context, network, address string) (net.Conn, error)) *connections {
	return &connections{dial: dial, open: make(map[*connection]struct{})}
}

// DialContext opens a connection and remembers it until it is closed.
func (c *connections) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: inner, all: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	return conn, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// closeStranded closes the connections whose local address has is not true for.
func (c *connections) closeStranded(has func(netip.Addr) bool) {
	c.mu.Lock()
	var stranded []*connection
	for conn := range c.open {
		if local, ok := conn.LocalAddr().(*net.TCPAddr); ok && !has(local.AddrPort().Addr().Unmap()) {
			stranded = append(stranded, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range stranded {
		_ = conn.Close() // nobody can be told
	}
}

// ownAddresses returns a test for the addresses of this machine. When they
// cannot be read it says yes to all.
func ownAddresses() func(netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return func(netip.Addr) bool { return true }
	}
	own := make(map[netip.Addr]bool, len(list))
	for _, each := range list {
		if network, ok := each.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(network.IP); ok {
				own[addr.Unmap()] = true
			}
		}
	}
	return func(addr netip.Addr) bool { return own[addr.WithZone("")] || addr.IsLoopback() }
}
