//go:build !linux

package server

import "net"

// openQueues returns first alone: elsewhere a client may change sockets when
// one more is opened.
func openQueues(first *net.UDPConn, _ int) ([]*net.UDPConn, error) {
	return []*net.UDPConn{first}, nil
}
