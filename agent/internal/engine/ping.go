package engine

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/verdict"
)

// Choices of ours.
const (
	defaultPingInterval = time.Second
	defaultPingTimeout  = 3 * time.Second
	leastPingInterval   = 5 * time.Millisecond
)

// Ping sends echo requests through the tunnel, one after the other, and tells
// of each.
func (e *Engine) Ping(ctx context.Context, request local.PingRequest, reply func(local.PingReply) error) error {
	_, running, notice := e.now()
	if running == nil {
		return local.Errorf(program.ExitNotEnrolled, "%s", cmp.Or(notice, "this machine is not connected; run `wattle up`"))
	}
	target, err := running.target(request.Peer)
	if err != nil {
		return err
	}
	interval := positive(request.IntervalMillis, defaultPingInterval)
	for sequence := 1; request.Count == 0 || sequence <= request.Count; sequence++ {
		started := time.Now()
		answer := running.echo(ctx, target, positive(request.TimeoutMillis, defaultPingTimeout))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer.Sequence = sequence
		if err := reply(answer); err != nil {
			return err
		}
		if request.UntilDirect && answer.Path == "direct" && answer.Error == "" {
			return nil
		}
		if request.Count != 0 && sequence == request.Count {
			return nil
		}
		if err := pause(ctx, time.Until(started.Add(max(interval, leastPingInterval)))); err != nil {
			return err
		}
	}
	return nil
}

func positive(millis float64, otherwise time.Duration) time.Duration {
	if millis <= 0 {
		return otherwise
	}
	return time.Duration(millis * float64(time.Millisecond))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// pingTarget is a peer and the address that is asked for.
type pingTarget struct {
	peer peer
	addr netip.Addr
}

// target finds a peer by name, full name, or overlay address.
func (l *link) target(name string) (pingTarget, error) {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil {
		return pingTarget{}, local.Errorf(program.ExitTimedOut, "there is no network map yet; `wattle wait` blocks until there is one")
	}
	addr, err := netip.ParseAddr(name)
	byAddress := err == nil
	host, known := l.machine.Resolver.Lookup(name)
	if byAddress {
		known = wanted.crowd.owners.Has(addr)
	} else {
		addr = host.IPv4
		if !addr.IsValid() {
			addr = host.IPv6
		}
	}
	if !known {
		return pingTarget{}, local.Errorf(program.ExitFailed, "no peer %q: either no machine has this name, or no policy connects it with this one; `wattle status` lists the peers", name)
	}
	found, ok := wanted.crowd.withAddress(addr)
	if !ok {
		return pingTarget{}, local.Errorf(program.ExitFailed, "%q is this machine itself", name)
	}
	return pingTarget{peer: found, addr: addr}, nil
}

// echo sends one request.
func (l *link) echo(ctx context.Context, to pingTarget, timeout time.Duration) local.PingReply {
	answer := local.PingReply{Peer: to.peer.entry.Name, Address: to.addr.String()}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rtt, err := l.machine.Device.Ping(limited, to.addr)
	switch {
	case err == nil:
		answer.RTTMillis = millis(rtt)
	case errors.Is(err, syscall.EPERM) || !l.mayPing(to):
		answer.Denied = true
		answer.Error = "no rule lets this machine ping " + to.peer.entry.Name
	case limited.Err() != nil:
		answer.Error = "no answer within " + timeout.String()
	default:
		answer.Error = err.Error()
	}
	if path, known := l.machine.Paths.Status(to.peer.entry.Id); known {
		if _, wanted, _, _ := l.snapshot(); answer.Error != "" && !answer.Denied && wanted.keys == postquantum.Strict && path.Keys.State != postquantum.Agreed {
			answer.PostQuantum, answer.PostQuantumReason = string(path.Keys.State), string(path.Keys.Reason)
		}
		answer.Path, answer.Reason, answer.Remote = string(path.Path), string(path.Reason), cmp.Or(path.Relay, socket(path.Remote))
	}
	return answer
}

// mayPing asks the rules in force.
func (l *link) mayPing(to pingTarget) bool {
	_, wanted, applied, _ := l.snapshot()
	packet := verdict.Packet{Source: wanted.self.view.N, Destination: to.peer.entry.N, Protocol: verdict.NumberICMP}
	return applied.Verdict(l.wall()).Evaluate(packet).Allowed
}
