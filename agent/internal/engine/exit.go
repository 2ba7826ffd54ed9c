package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/generated/api"
)

// exitWish is what this machine wants of exit nodes. The zero value takes what
// the network applies.
type exitWish struct {
	node      string // a name; empty: what the network applies
	off       bool
	failsOpen bool
	localToo  bool // local subnets leave by the exit node as well
	declines  bool // nothing else behind machines is used
}

func exitWishOf(v settings.Values) exitWish {
	wish := exitWish{node: v.ExitNode, failsOpen: v.ExitNodeFail == "open", localToo: !v.ExitNodeLocal, declines: !v.AcceptRoutes}
	switch v.ExitNode {
	case "auto":
		wish.node = ""
	case "off":
		wish.node, wish.off = "", true
	}
	return wish
}

// exit is the exit node of this machine.
type exit struct {
	wish   exitWish
	wanted bool // everything shall leave by one
	found  bool // somebody leads there
	open   bool // nobody answers, and traffic goes as without it
}

// everything is all addresses of both families.
func everything() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
}

func (d *destination) isExit() bool { return !d.serves() && d.prefix.IsValid() && d.prefix.Bits() == 0 }

// applied reports whether the network has machines take the exit node by themselves.
func (d *destination) applied() bool {
	return slices.ContainsFunc(d.views, func(v api.CompiledRoute) bool { return !deref(v.SkipAutoApply) })
}

// chooseExit takes one exit node for each family, or none.
func (d *desired) chooseExit(wish exitWish) {
	serving := slices.ContainsFunc(d.destinations, func(x *destination) bool { return x.serves() && x.prefix.IsValid() && x.prefix.Bits() == 0 })
	d.exit = exit{wish: wish, wanted: wish.node != "" && !serving}
	taken := map[netip.Prefix]bool{}
	for _, x := range d.destinations {
		if !x.isExit() {
			if x.led() && wish.declines {
				x.refusal, x.declined = "this machine accepts no routes; `wattle set accept_routes=on` ends that", true
			}
			continue
		}
		x.fallsOpen = wish.failsOpen
		switch {
		case wish.off:
			x.refusal = "exit nodes are off on this machine; `wattle set exit-node=auto`, or a name, ends that"
		case serving:
			x.refusal = "this machine is an exit node itself"
		case wish.node != "" && !x.only(wish.node):
			x.refusal = fmt.Sprintf("the exit node of this machine is %s", wish.node)
		case wish.node == "" && !x.applied():
			x.refusal = "it is offered; `wattle set exit-node=NAME` takes it"
		case taken[x.prefix]:
			x.refusal = "another exit node is used"
		default:
			taken[x.prefix], d.exit.wanted = true, true
		}
	}
	d.exit.found = len(taken) > 0
}

// only leaves the one router with a name, and reports whether there is one.
func (d *destination) only(name string) bool {
	at := slices.Index(d.routers, name)
	if at < 0 {
		return false
	}
	d.candidates, d.routers = []route.Candidate{d.candidates[at]}, []string{name}
	return true
}

// closeExit refuses what the exit node does not carry: a family that it has no
// route for, and everything while nobody leads there. Beside a route the refusal
// waits until the tunnel is gone, so that nothing leaks when the agent is killed.
func (d *desired) closeExit() {
	if !d.exit.wanted {
		return
	}
	led := slices.ContainsFunc(d.routing.Destinations, func(p netip.Prefix) bool { return p.Bits() == 0 })
	if d.exit.wish.failsOpen && !led {
		d.exit.open = true
		return
	}
	d.routing.LocalToo = d.exit.wish.localToo
	d.routing.Refused = append(d.routing.Refused, everything()...)
}

// warnings tells when nothing leaves, or when what should leave by the exit node
// does not. Silent says that it was asked and does not answer.
func (e exit) warnings(silent bool) []string {
	const ends = "nothing leaves this machine but to the network and to local subnets; `wattle set exit-node=off` ends that"
	switch {
	case !e.wanted:
		return nil
	case e.open:
		return []string{"the exit node does not answer: traffic leaves as without one, since exit-node-fail is open"}
	case !e.found:
		return []string{fmt.Sprintf("no exit node %s is offered to this machine: %s", e.wish.node, ends)}
	case silent:
		return []string{"the exit node does not answer: " + ends}
	}
	return nil
}
