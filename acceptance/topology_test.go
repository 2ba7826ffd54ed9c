//go:build linux

package acceptance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	if network, ok := s.networks[args[i+1]]; ok {
		return args[:i], network
	}
	r, ok := s.lab.FindRouter(args[i+1])
	if !ok {
		ts.Fatalf("no network is named %s", args[i+1])
	}
	return args[:i], r
}

// over cuts "over STACK" off args and returns the stack, 0 when there is none.
func over(ts *testscript.TestScript, args []string) ([]string, lab.Stack) {
	i := slices.Index(args, "over")
	if i < 0 {
		return args, 0
	}
	usage(ts, i == len(args)-2 && lab.Stacks[args[i+1]] != 0, "... over ipv4|ipv6|both")
	return args[:i], lab.Stacks[args[i+1]]
}

func host(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	args, stack := over(ts, args)
	names, network := s.at(ts, args)
	usage(ts, len(names) > 0, "host NAME... [at NETWORK] [over STACK]")
	for _, name := range names {
		_, err := s.lab.HostWith(name, network, stack)
		ts.Check(err)
	}
}

func router(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	args, stack := over(ts, args)
	args, network := s.at(ts, args)
	usage(ts, len(args) == 2, "router NAME KIND [at NETWORK] [over STACK]")
	_, err := s.lab.RouterWith(args[0], lab.NAT(args[1]), network, stack)
	ts.Check(err)
}

// gateway makes a router forward ports, or shows what it forwards.
func gateway(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 2, "gateway ROUTER pcp|nat-pmp|upnp")
	_, err := s.filtered(ts, args).Gateway(args[1])
	ts.Check(err)
}

// access puts the routers of a kind of access on the internet.
func access(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 2, "access NAME SIDE")
	i := slices.IndexFunc(lab.Sides, func(side lab.Side) bool { return side.Name == args[1] })
	if i < 0 {
		ts.Fatalf("no kind of access is named %s", args[1])
	}
	network, err := lab.Sides[i].Build(s.lab, args[0])
	ts.Check(err)
	s.networks[args[0]] = network
}

// wan makes a long way, or gives an existing one another line.
func wan(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	args, network := s.at(ts, args)
	usage(ts, len(args) > 0, "wan NAME [delay=40ms] [jitter=5ms] [loss=0.02] [burst=3] [rate=10000000] [queue=100ms] [reorder] [at NETWORK]")
	line, err := parseLine(args[1:])
	ts.Check(err)
	if w, ok := s.lab.FindWAN(args[0]); ok {
		w.Set(line)
		s.changed = time.Now()
		return
	}
	w, err := s.lab.WAN(args[0], line, network)
	ts.Check(err)
	s.networks[args[0]] = w
}

// shape makes two machines and all that is between them.
func shape(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 3, "shape NAME HOST HOST")
	i := slices.IndexFunc(lab.Shapes, func(shape lab.Shape) bool { return shape.Name == args[0] })
	if i < 0 {
		ts.Fatalf("no shape is named %s", args[0])
	}
	_, _, err := lab.Shapes[i].Build(s.lab, args[1], args[2])
	ts.Check(err)
}

// forget makes a router forget mappings sooner.
func forget(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 2, "forget ROUTER SECONDS")
	seconds, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(s.filtered(ts, args).SetUDPTimeout(seconds))
}

func parseLine(args []string) (line lab.Line, err error) {
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "delay":
			line.Delay, err = time.ParseDuration(value)
		case "jitter":
			line.Jitter, err = time.ParseDuration(value)
		case "queue":
			line.Queue, err = time.ParseDuration(value)
		case "loss":
			line.Loss, err = strconv.ParseFloat(value, 64)
		case "burst":
			line.Burst, err = strconv.ParseFloat(value, 64)
		case "rate":
			line.Rate, err = strconv.ParseInt(value, 10, 64)
		case "reorder":
			line.Reorder = true
		default:
			return line, fmt.Errorf("a line has no %q", name)
		}
		if err != nil {
			return line, fmt.Errorf("%s: %w", arg, err)
		}
	}
	return line, nil
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

func rebind(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 1, "rebind ROUTER")
	r, ok := s.lab.FindRouter(args[0])
	if !ok {
		ts.Fatalf("no router is named %s", args[0])
	}
	ts.Check(r.Rebind())
	s.changed = time.Now()
}

func (s *story) filtered(ts *testscript.TestScript, args []string) *lab.Router {
	usage(ts, len(args) == 2, "block|unblock ROUTER tcp|udp|all-but-443")
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
