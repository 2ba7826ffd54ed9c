package engine

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// outside resolves the names that the agent itself needs: those of the control
// plane and of relays. While this machine asks us, these are asked of whom it
// asked before: the name servers of the network may be reachable only through a
// tunnel that is not there yet.
type outside struct {
	machine atomic.Pointer[Machine] // nil while down
}

// dialer opens connections that no route of ours leads elsewhere or refuses, not
// even one that a former agent has left.
var dialer = net.Dialer{Control: mark.Socket}

// resolver is for the sockets of the agent; nil, the system's, where the name
// servers of the machine are not set.
func (o *outside) resolver() *net.Resolver {
	if runtime.GOOS != "linux" {
		return nil
	}
	return &net.Resolver{PreferGo: true, Dial: o.dial}
}

func (o *outside) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m := o.machine.Load(); m != nil && len(m.Names.Status().Set.Servers) > 0 {
		return m.Resolver.DialOutside(ctx)
	}
	return dialer.DialContext(ctx, network, address)
}
