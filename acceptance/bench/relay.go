package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// benchSecret is what the control planes and relays of a benchmark share.
const benchSecret = "the secret of a benchmark"

// A contestant is a pair of agents that meet in one way, and what was measured between them.
type contestant struct {
	name  string
	flags []string     // of the daemons
	relay *fleet.Relay // nil: they meet directly, or through the relay in the control plane
	a, b  *lab.Host
	first *fleet.Machine // that of a
	other *fleet.Machine // that of b; set by onLine only
	to    netip.AddrPort

	rates []float64 // Mbit/s
	cpu   []float64 // seconds of the relay per GiB
}

// relayTCP prints the throughput of one TCP stream between two agents through wattle-relay over that of two agents that meet
// directly, and over that of agents that use a plain pion/turn server, or coturn. All pairs stand at the same time behind NATs
// of their own and are measured in turn.
func relayTCP(ctx context.Context, c config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := lab.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	field := &relayField{config: c, lab: l}
	all := []*contestant{
		{name: "direct"},
		{name: "relay"},
		{name: "pion"},
		{name: "tls", flags: []string{"--relay-transports", "tls"}},
		{name: "ws", flags: []string{"--relay-transports", "websocket"}},
	}
	commands := map[string]func(fleet.RelayConfig) []string{
		"relay":  fleet.WattleRelay(c.bin),
		"pion":   func(r fleet.RelayConfig) []string { return []string{self, "pion", r.Address, r.Secret} },
		"coturn": fleet.Coturn,
	}
	if fleet.HasCoturn() {
		all = append(all, &contestant{name: "coturn"})
	} else {
		fmt.Fprintln(os.Stderr, "bench: relay_vs_coturn is SKIPPED: turnserver is not installed (apt-get install --no-install-recommends coturn)")
	}
	for _, one := range all {
		if err := field.place(ctx, one, commands[one.name]); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	for range c.rounds {
		for _, one := range all {
			if err := one.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
		}
		slices.Reverse(all)
	}
	byName := map[string]*contestant{}
	for _, one := range all {
		byName[one.name] = one
	}
	ours := byName["relay"]
	spread("relay_tcp_ratio", ratios(ours.rates, byName["direct"].rates), "x")
	figure("relay_tcp_mbit_s", median(ours.rates), "Mbit/s")
	figure("relay_tcp_direct_mbit_s", median(byName["direct"].rates), "Mbit/s")
	figure("relay_cpu_s_per_gib", median(ours.cpu), "s/GiB")
	for _, name := range []string{"tls", "ws"} {
		spread("relay_"+name+"_ratio", ratios(byName[name].rates, byName["direct"].rates), "x")
	}
	spread("relay_ws_vs_tls", ratios(byName["ws"].rates, byName["tls"].rates), "x")
	for _, name := range []string{"pion", "coturn"} {
		other := byName[name]
		if other == nil {
			continue
		}
		spread("relay_vs_"+name, ratios(ours.rates, other.rates), "x")
		figure("relay_"+name+"_mbit_s", median(other.rates), "Mbit/s")
		figure("relay_"+name+"_cpu_s_per_gib", median(other.cpu), "s/GiB")
	}
	return nil
}

// ratios divides what was measured in the same round.
func ratios(of, over []float64) []float64 {
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i] / over[i]
	}
	return out
}

// A relayField is a lab with several control planes, each with a relay of its own.
type relayField struct {
	config
	lab *lab.Lab
}

// place builds a control plane and a pair of agents, with a relay of their own where command is not nil. NATs with a mapping
// for each destination leave them the relay only; others let them meet directly.
func (f *relayField) place(ctx context.Context, one *contestant, command func(fleet.RelayConfig) []string) error {
	dir := filepath.Join(f.dir, one.name)
	host, err := f.lab.Host(one.name+"-server", f.lab.Internet())
	if err != nil {
		return err
	}
	config := fleet.ServerConfig{
		Bin: f.bin, Dir: filepath.Join(dir, "server"), On: host, Address: host.Addr.String(), Port: "443", Relay: "3478",
	}
	if command != nil {
		if one.relay, err = f.relay(ctx, one.name, command); err != nil {
			return err
		}
		config.Flags = []string{"--relay=false", "--separate-relay", one.relay.Address, "--relay-secret-file", one.relay.SecretFile}
	}
	server, err := fleet.StartServer(ctx, config)
	if err != nil {
		return err
	}
	kind, arrived := lab.Symmetric, []string{"ping", one.name + "-b", "-n", "1"}
	if one.name == "direct" {
		kind, arrived = lab.PortRestricted, []string{"ping", one.name + "-b", "--until-direct"}
	}
	if one.a, err = f.machineBehind(one.name+"-a", kind); err != nil {
		return err
	}
	if one.b, err = f.machineBehind(one.name+"-b", kind); err != nil {
		return err
	}
	return f.join(ctx, one, server, dir, arrived)
}

// relay starts a relay on a host of its own.
func (f *relayField) relay(ctx context.Context, name string, command func(fleet.RelayConfig) []string) (*fleet.Relay, error) {
	harbour, err := f.lab.Host(name+"-relay", f.lab.Internet())
	if err != nil {
		return nil, err
	}
	return fleet.StartRelay(ctx, fleet.RelayConfig{
		Dir: filepath.Join(f.dir, name, "relay"), On: harbour, Address: harbour.Addr.String() + ":3478", Secret: benchSecret, Command: command,
	})
}

func (f *relayField) machineBehind(name string, kind lab.NAT) (*lab.Host, error) {
	router, err := f.lab.Router(name+"-nat", kind, f.lab.Internet())
	if err != nil {
		return nil, err
	}
	return f.lab.Host(name, router)
}

func (f *relayField) join(ctx context.Context, one *contestant, server *fleet.Server, dir string, arrived []string) error {
	for _, host := range []*lab.Host{one.b, one.a} {
		m, err := fleet.StartMachine(ctx, fleet.MachineConfig{Bin: f.bin, Dir: filepath.Join(dir, host.Name), On: host, Name: host.Name, Flags: one.flags})
		if err != nil {
			return err
		}
		if err := m.Up(ctx, server, server.SetupKeyFile); err != nil {
			return err
		}
		one.first = m
	}
	out, err := one.first.Wattle(ctx, arrived...)
	if err != nil {
		return fmt.Errorf("the pair does not meet: %w\n%s\n%s", err, out, one.first.Log())
	}
	if one.name != "direct" && !strings.Contains(out, "relay") {
		return fmt.Errorf("the pair should meet through the relay:\n%s", out)
	}
	to, _, err := overlay(ctx, one.b)
	one.to = netip.AddrPortFrom(to, 5201)
	return err
}

// run measures one stream.
func (one *contestant) run(ctx context.Context) error {
	before, err := one.spent()
	if err != nil {
		return err
	}
	rate, err := throughput(ctx, one.a, one.b, one.to.String())
	if err != nil {
		return err
	}
	after, err := one.spent()
	one.rates = append(one.rates, rate*8/1e6)
	one.cpu = append(one.cpu, (after-before).Seconds()/(rate*streamLength.Seconds()/(1<<30)))
	return err
}

// spent is the processor time of the relay so far, 0 without one.
func (one *contestant) spent() (time.Duration, error) {
	if one.relay == nil {
		return 0, nil
	}
	return processor(one.relay.PID())
}
