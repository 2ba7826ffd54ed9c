package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// A network is a control plane on a lab's internet and two places for machines.
type network struct {
	config
	lab        *lab.Lab
	server     *fleet.Server
	serverHost *lab.Host
	a, b       *lab.Host
}

// lan puts both machines on one LAN, behind a router that translates nothing.
func lan(l *lab.Lab) (a, b lab.Network, err error) {
	r, err := l.Router("router", lab.None, l.Internet())
	return r, r, err
}

// behind puts each machine behind a NAT of its own.
func behind(kind lab.NAT) func(*lab.Lab) (a, b lab.Network, err error) {
	return func(l *lab.Lab) (a, b lab.Network, err error) {
		ra, err1 := l.Router("router-a", kind, l.Internet())
		rb, err2 := l.Router("router-b", kind, l.Internet())
		return ra, rb, errors.Join(err1, err2)
	}
}

// behindHTTPS lets only TCP to port 443 leave the first machine's network.
func behindHTTPS(l *lab.Lab) (a, b lab.Network, err error) {
	ra, err1 := l.Router("router-a", lab.PortRestricted, l.Internet())
	rb, err2 := l.Router("router-b", lab.PortRestricted, l.Internet())
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	return ra, rb, ra.Block(lab.AllBut443)
}

// newNetwork builds a lab with a running control plane. Close ends it.
func newNetwork(ctx context.Context, c config, shape func(*lab.Lab) (a, b lab.Network, err error)) (*network, error) {
	return shapedNetwork(ctx, c, lab.IPv4, func(l *lab.Lab, a, b string) (ha, hb *lab.Host, err error) {
		na, nb, err := shape(l)
		if err != nil {
			return nil, nil, err
		}
		ha, err1 := l.Host(a, na)
		hb, err2 := l.Host(b, nb)
		return ha, hb, errors.Join(err1, err2)
	})
}

// shapedNetwork is newNetwork for two machines that are built together.
func shapedNetwork(ctx context.Context, c config, internet lab.Stack, build func(l *lab.Lab, a, b string) (ha, hb *lab.Host, err error)) (*network, error) {
	l, err := lab.Open()
	if err != nil {
		return nil, err
	}
	n := &network{config: c, lab: l}
	if err := n.furnish(ctx, internet, build); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *network) furnish(ctx context.Context, internet lab.Stack, build func(l *lab.Lab, a, b string) (ha, hb *lab.Host, err error)) error {
	server, err := n.lab.HostWith("server", n.lab.Internet(), internet)
	if err != nil {
		return err
	}
	n.serverHost = server
	if n.a, n.b, err = build(n.lab, "machine-a", "machine-b"); err != nil {
		return err
	}
	n.server, err = fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: n.bin, Dir: filepath.Join(n.dir, "server"), On: server,
		Address: server.Addr.String(), Name: server.FQDN(), Port: "443", Relay: "3478",
	})
	return err
}

// machine starts an agent on host; dir tells its files from those of others.
func (n *network) machine(ctx context.Context, host *lab.Host, dir string) (*fleet.Machine, error) {
	return fleet.StartMachine(ctx, fleet.MachineConfig{Bin: n.bin, Dir: filepath.Join(n.dir, dir), On: host, Name: host.Name})
}

// Close ends the control plane and removes the lab and its files.
func (n *network) Close() error {
	var errs []error
	if n.server != nil {
		errs = append(errs, n.server.Stop())
	}
	return errors.Join(append(errs, n.lab.Close(), os.RemoveAll(filepath.Join(n.dir, "server")))...)
}

// overlay returns the overlay address of the machine on host: the one in 100.64.0.0/10 (RFC 6598).
func overlay(ctx context.Context, host *lab.Host) (netip.Addr, string, error) {
	out, err := host.Command(ctx, "ip", "-4", "-o", "addr").Output()
	if err != nil {
		return netip.Addr{}, "", fmt.Errorf("list the addresses of %s: %w", host.Name, err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line) // 2: wt0 inet 100.64.0.1/16 ...
		if len(fields) < 4 {
			continue
		}
		ip, _, err := net.ParseCIDR(fields[3])
		if err != nil {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ip.To4()); ok && netip.MustParsePrefix("100.64.0.0/10").Contains(addr) {
			return addr, fields[1], nil
		}
	}
	return netip.Addr{}, "", fmt.Errorf("%s has no overlay address", host.Name)
}
