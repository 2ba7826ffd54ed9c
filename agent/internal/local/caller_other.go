//go:build !linux && !darwin && !freebsd

package local

import (
	"net"
	"os"
)

// callerID trusts the folder of the socket: this system does not tell who is
// at the other end, so whoever may open the socket may change the connection.
func callerID(net.Conn) (int, error) { return os.Getuid(), nil }
