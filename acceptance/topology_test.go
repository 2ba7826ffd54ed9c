//go:build linux

package acceptance

import (
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// at cuts "at NETWORK" off args and returns the network.
func (s *story) at(ts *testscript.TestScript, args []string) ([]string, lab.Network) {
	i := slices.Index(args, "at")
	if i < 0 {
		return args, s.lab.Internet()
	}
	usage(ts, i == len(args)-2, "... at NETWORK")
	if args[i+1] == "internet" {
		return args[:i], s.lab.Internet()
	}
	r, ok := s.lab.FindRouter(args[i+1])
	if !ok {
		ts.Fatalf("no router is named %s", args[i+1])
	}
	return args[:i], r
}

func host(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	names, network := s.at(ts, args)
	usage(ts, len(names) > 0, "host NAME... [at NETWORK]")
	for _, name := range names {
		_, err := s.lab.Host(name, network)
		ts.Check(err)
	}
}

func router(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	args, network := s.at(ts, args)
	usage(ts, len(args) == 2, "router NAME KIND [at NETWORK]")
	_, err := s.lab.Router(args[0], lab.NAT(args[1]), network)
	ts.Check(err)
}

func block(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.filtered(ts, args).Block(args[1]))
	s.changed = time.Now()
}

func unblock(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.filtered(ts, args).Unblock(args[1]))
}

func (s *story) filtered(ts *testscript.TestScript, args []string) *lab.Router {
	usage(ts, len(args) == 2, "block ROUTER tcp|udp")
	r, ok := s.lab.FindRouter(args[0])
	if !ok {
		ts.Fatalf("no router is named %s", args[0])
	}
	return r
}

func cut(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	a, b, udpOnly := s.pair(ts, args)
	ts.Check(s.lab.Cut(a.Addr, b.Addr, udpOnly))
	s.changed = time.Now()
}

func mend(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	a, b, udpOnly := s.pair(ts, args)
	ts.Check(s.lab.Mend(a.Addr, b.Addr, udpOnly))
}

func (s *story) pair(ts *testscript.TestScript, args []string) (a, b *lab.Host, udpOnly bool) {
	udpOnly = len(args) == 3 && args[2] == "udp"
	usage(ts, len(args) == 2 || udpOnly, "cut HOST HOST [udp]")
	return s.find(ts, args[0]), s.find(ts, args[1]), udpOnly
}
