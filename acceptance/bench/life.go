package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// failoverToRelay prints how long no answer comes between two machines when their direct path is cut under traffic.
func failoverToRelay(ctx context.Context, c config) error {
	return onLine(ctx, c, internet, func(n *network, one *contestant) error {
		var gaps []float64
		for range c.rounds {
			gap, err := pause(ctx, one, func() error { return n.lab.Cut(n.a.Addr, n.b.Addr, true) })
			if err != nil {
				return err
			}
			gaps = append(gaps, float64(gap.Milliseconds()))
			if err := errors.Join(n.lab.Mend(n.a.Addr, n.b.Addr, true), stir(ctx, n.a), direct(ctx, one)); err != nil {
				return err
			}
		}
		figure("failover_to_relay_ms", median(gaps), "ms")
		figure("failover_to_relay_worst_ms", slices.Max(gaps), "ms")
		return nil
	})
}

// roam prints how long no answer comes when a machine behind a NAT gets another address.
func roam(ctx context.Context, c config) error {
	return onLine(ctx, c, behind(lab.PortRestricted), func(n *network, one *contestant) error {
		last := 49
		return gaps(ctx, c, "roam", one, one, func() error { last++; return readdress(ctx, n.a, last) })
	})
}

// upgradeWatch is how long packets are counted around a change of path.
const upgradeWatch = 4 * time.Second

// upgrade prints how many packets are lost when a pair moves from the relay to a direct path, with one packet every 5 ms from
// each side.
func upgrade(ctx context.Context, c config) error {
	return onLine(ctx, c, internet, func(n *network, one *contestant) error {
		back, _, err := overlay(ctx, n.a)
		if err != nil {
			return err
		}
		var lost, sent int
		for range c.rounds {
			if err := errors.Join(n.lab.Cut(n.a.Addr, n.b.Addr, true), relayed(ctx, one)); err != nil {
				return err
			}
			count := []string{"-c", strconv.Itoa(int(upgradeWatch / (5 * time.Millisecond)))}
			forth, err1 := flood(ctx, n.a, one.to.Addr().String(), count...)
			other, err2 := flood(ctx, n.b, back.String(), count...)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			err := errors.Join(n.lab.Mend(n.a.Addr, n.b.Addr, true), stir(ctx, n.a), direct(ctx, one))
			for _, f := range []*flooding{forth, other} {
				s, l, failure := f.end()
				sent, lost, err = sent+s, lost+l, errors.Join(err, failure)
			}
			if err != nil {
				return err
			}
		}
		figure("upgrade_sent_packets", float64(sent), "packets")
		figure("upgrade_lost_packets", float64(lost), "packets")
		return nil
	})
}

// internet puts both machines straight on it.
func internet(l *lab.Lab) (a, b lab.Network, err error) { return l.Internet(), l.Internet(), nil }

// onLine gives two machines with a direct path to measure.
func onLine(ctx context.Context, c config, shape func(*lab.Lab) (a, b lab.Network, err error), measure func(*network, *contestant) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := newNetwork(ctx, c, shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	one := &contestant{a: n.a, b: n.b}
	var machines []*fleet.Machine
	for _, host := range []*lab.Host{n.b, n.a} {
		m, err := n.machine(ctx, host, host.Name)
		if err != nil {
			return err
		}
		if err := m.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
			return err
		}
		machines = append(machines, m)
	}
	one.other, one.first = machines[0], machines[1]
	if err := direct(ctx, one); err != nil {
		return err
	}
	address, _, err := overlay(ctx, n.b)
	if err != nil {
		return err
	}
	one.to = netip.AddrPortFrom(address, 5201)
	return measure(n, one)
}

// direct waits until packets go directly, both ways.
func direct(ctx context.Context, one *contestant) error {
	out, err := one.first.Wattle(ctx, "ping", one.b.Name, "--until-direct", "--interval", "20ms", "-n", "1500")
	if err == nil && !strings.Contains(out, "direct") {
		err = errors.New("still relayed")
	}
	if err != nil {
		return fmt.Errorf("no direct path: %w\n%s", err, out[max(0, len(out)-500):])
	}
	return nil
}

// relayed waits until packets go through the relay.
func relayed(ctx context.Context, one *contestant) error {
	for range 500 {
		out, err := one.first.Wattle(ctx, "ping", one.b.Name, "-n", "1")
		if err == nil && strings.Contains(out, "relay") {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.New("the path did not move to the relay")
}

// stir changes something about the network of a host that does not matter, which makes an agent look for better paths at once.
func stir(ctx context.Context, host *lab.Host) error {
	return errors.Join(
		ip(ctx, host, "addr", "add", "192.0.2.250/32", "dev", "lo"),
		ip(ctx, host, "addr", "del", "192.0.2.250/32", "dev", "lo"))
}

// readdress gives a host of a LAN another address with the given last number, as another lease would.
func readdress(ctx context.Context, host *lab.Host, last int) error {
	octets := host.Addr.As4()
	octets[3] = byte(last)
	return errors.Join(
		ip(ctx, host, "addr", "flush", "dev", "eth0"),
		ip(ctx, host, "addr", "add", netip.AddrFrom4(octets).String()+"/24", "dev", "eth0"),
		ip(ctx, host, "route", "replace", "default", "via", gateway(host).String(), "dev", "eth0"))
}

// gateway is the router of a host's LAN.
func gateway(host *lab.Host) netip.Addr {
	octets := host.Addr.As4()
	octets[3] = 1
	return netip.AddrFrom4(octets)
}

func ip(ctx context.Context, host *lab.Host, args ...string) error {
	if out, err := host.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// countLine is how `ping` counts.
var countLine = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// A flooding is a `ping` with a packet every 5 ms.
type flooding struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// flood sends until interrupt is called, or as args of `ping` say.
func flood(ctx context.Context, from fleet.Place, to string, args ...string) (*flooding, error) {
	f := &flooding{}
	f.cmd = from.Command(ctx, "ping", append(args, "-n", "-q", "-i", "0.005", "-W", "2", to)...)
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	if err := f.cmd.Start(); err != nil {
		return nil, fmt.Errorf("ping: %w", err)
	}
	return f, nil
}

// interrupt lets it count what it has sent so far.
func (f *flooding) interrupt() (sent, lost int, err error) {
	failed := f.cmd.Process.Signal(os.Interrupt)
	sent, lost, err = f.end()
	return sent, lost, errors.Join(failed, err)
}

// end waits for the last packet and returns how many were sent and how many of them had no answer.
func (f *flooding) end() (sent, lost int, err error) {
	failed := f.cmd.Wait() // also of one that lost packets
	match := countLine.FindStringSubmatch(f.out.String())
	if match == nil {
		return 0, 0, fmt.Errorf("ping: %w\n%s", failed, f.out.String())
	}
	sent, err = strconv.Atoi(match[1])
	received, failure := strconv.Atoi(match[2])
	return sent, sent - received, errors.Join(err, failure)
}
