package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// A tracing collects what each local step does with one packet.
//
//	out: source -> destination -> [route] -> rules -> peer -> path
//	in:  source -> destination -> [route] -> rules -> host
type tracing struct {
	sight
	from, to end
	protocol uint8
	port     uint16
	steps    []local.TraceStep
}

// pass and drop add a step; drop ends the trace.
func (t *tracing) pass(step, format string, args ...any) bool {
	t.steps = append(t.steps, local.TraceStep{Step: step, Passes: true, Detail: fmt.Sprintf(format, args...)})
	return true
}

func (t *tracing) drop(step, format string, args ...any) bool {
	t.steps = append(t.steps, local.TraceStep{Step: step, Detail: fmt.Sprintf(format, args...)})
	return false
}

// Trace says what each local step does with one packet. Nothing is sent.
func (e *Engine) Trace(_ context.Context, request local.FlowRequest) (local.TraceAnswer, error) {
	s, err := e.look()
	if err != nil {
		return local.TraceAnswer{}, err
	}
	t := tracing{sight: s, from: s.end(request.Source), to: s.end(request.Destination), port: request.Port}
	if t.protocol, err = number(request.Protocol, t.to.addr.Is6()); err != nil {
		return local.TraceAnswer{}, err
	}
	answer := local.TraceAnswer{Schema: local.TraceSchema}
	switch request.Direction {
	case "in":
		answer.Passes = t.inbound()
	case "out":
		answer.Passes = t.outbound()
	default:
		return local.TraceAnswer{}, local.Errorf(program.ExitUsage, "the direction %q is unknown; use in or out", request.Direction)
	}
	answer.Steps = t.steps
	return answer, nil
}

func (t *tracing) outbound() bool {
	switch {
	case !t.from.self:
		return t.drop("source", "%s is no address of this machine; what it carries for others is not traced", t.from.text)
	case t.to.self:
		return t.drop("destination", "%s is this machine itself: the packet never reaches the tunnel", t.to.text)
	case t.to.unknown():
		t.pass("source", "this machine")
		return t.drop("destination", "%s is nothing of the network that this machine sees: the packet leaves by the host's own routes or not at all", t.to.text)
	}
	t.pass("source", "this machine")
	via := t.to.peer
	if route := t.to.route; route != nil {
		t.pass("destination", "%s lies behind machines of the network", t.to.text)
		var ok bool
		if via, ok = t.router(*route); !ok {
			return false
		}
	} else {
		t.pass("destination", "%s is the peer %s", t.to.text, via.entry.Name)
	}
	v := t.judge(t.from, t.to, t.protocol, t.port)
	if !v.Allowed {
		return t.drop("rules", "%s (%s)", ruling(v), t.enforcer())
	}
	t.pass("rules", "%s (%s)", ruling(v), t.enforcer())
	return t.peerStep(*via) && t.pathStep(*via)
}

// router is the peer that carries the traffic to a route.
func (t *tracing) router(route api.CompiledRoute) (*peer, bool) {
	if route.Role == api.CompiledRouteRoleServe {
		return nil, t.drop("route", "this machine leads to %s itself: the host's own routes decide", route.Name)
	}
	at := slices.IndexFunc(t.wanted.destinations, func(d *destination) bool {
		return slices.ContainsFunc(d.views, func(v api.CompiledRoute) bool { return v.Id == route.Id })
	})
	if at < 0 {
		return nil, t.drop("route", "%s is not in force yet", route.Name)
	}
	led := t.wanted.destinations[at]
	if led.refusal != "" {
		return nil, t.drop("route", "%s is not used: %s", route.Name, led.refusal)
	}
	if p, known := t.wanted.crowd.withID(led.router); known {
		return &p, t.pass("route", "%s leads there by %s", route.Name, p.entry.Name)
	}
	return nil, t.drop("route", "nobody leads to %s at the moment", route.Name)
}

func (t *tracing) inbound() bool {
	switch {
	case t.from.self:
		return t.drop("source", "%s is this machine itself: such a packet does not come out of the tunnel", t.from.text)
	case t.from.unknown():
		return t.drop("source", "%s is nothing that this machine sees: no peer may send from it, so WireGuard drops it", t.from.text)
	case t.from.peer != nil:
		t.pass("source", "%s belongs to the peer %s", t.from.text, t.from.peer.entry.Name)
	default:
		t.pass("source", "%s lies behind %s", t.from.text, cmp.Or(strings.Join(t.routers(*t.from.route), ", "), t.from.route.Name))
	}
	switch {
	case t.to.self:
		t.pass("destination", "this machine")
	case t.to.route != nil && t.to.route.Role == api.CompiledRouteRoleServe:
		t.pass("destination", "%s lies behind this machine, which leads to %s", t.to.text, t.to.route.Name)
		return t.drop("rules", "the rules of traffic that this machine carries for others are not traced; `wattle access` asks the control plane")
	default:
		return t.drop("destination", "%s is no address of this machine", t.to.text)
	}
	v := t.judge(t.from, t.to, t.protocol, t.port)
	if !v.Allowed {
		return t.drop("rules", "%s (%s)", ruling(v), t.enforcer())
	}
	t.pass("rules", "%s (%s)", ruling(v), t.enforcer())
	return t.pass("host", "handed to the host, whose own firewall and programs decide")
}

func (t *tracing) enforcer() string { return t.link.machine.Firewall.Status().Kind }

// peerStep says whether WireGuard has a session with the peer.
func (t *tracing) peerStep(p peer) bool {
	stats, err := t.link.machine.Device.Stats()
	if err != nil {
		return t.drop("peer", "the tunnel does not answer: %v", err)
	}
	if at := stats[p.key].LastHandshake; !at.IsZero() {
		return t.pass("peer", "WireGuard sends it to %s; last handshake %s ago", p.entry.Name, time.Since(at).Round(time.Second))
	}
	return t.pass("peer", "WireGuard sends it to %s after a handshake; there was none yet", p.entry.Name)
}

// pathStep says which way the packet would take.
func (t *tracing) pathStep(p peer) bool {
	path, known := t.link.machine.Paths.Status(p.entry.Id)
	switch {
	case !known:
		return t.drop("path", "no path is sought to %s", p.entry.Name)
	case path.Path == "idle":
		return t.pass("path", "idle: the packet wakes the path and waits for it")
	case path.Relay != "":
		return t.pass("path", "relayed by %s", path.Relay)
	}
	return t.pass("path", "%s to %s", path.Path, socket(path.Remote))
}
