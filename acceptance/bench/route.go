package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// routeFailover prints how long no answer comes from a subnet that two routers lead to when the one in use loses its link. A
// round each cuts the one that took over in the last.
func routeFailover(ctx context.Context, c config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o, err := newOffice(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := o.declare(ctx); err != nil {
		return err
	}
	one := &contestant{a: o.a, to: netip.AddrPortFrom(o.printer.Addr, 0)}
	var gaps []float64
	for round := range c.rounds {
		used := o.routers[round%2]
		if err := o.leads(ctx, used.Name); err != nil {
			return err
		}
		gap, err := pause(ctx, one, func() error { return link(ctx, used, "down") })
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		gaps = append(gaps, float64(gap.Milliseconds()))
		if err := errors.Join(plug(ctx, used), o.connected(ctx, used.Name)); err != nil {
			return err
		}
	}
	figure("route_failover_ms", median(gaps), "ms")
	figure("route_failover_worst_ms", slices.Max(gaps), "ms")
	return nil
}

// An office is a network whose first machine is on the internet and whose others are two routers beside a printer that has no
// agent.
type office struct {
	*network
	visitor *fleet.Machine // the first
	routers []*lab.Host
	printer *lab.Host
}

func newOffice(ctx context.Context, c config) (*office, error) {
	o := &office{}
	var err error
	o.network, err = shapedNetwork(ctx, c, lab.IPv4, func(l *lab.Lab, a, b string) (ha, hb *lab.Host, err error) {
		lan, err := l.Router("office", lab.PortRestricted, l.Internet())
		if err != nil {
			return nil, nil, err
		}
		ha, err1 := l.Host(a, l.Internet())
		hb, err2 := l.Host(b, lan)
		spare, err3 := l.Host("machine-c", lan)
		printer, err4 := l.Host("printer", lan)
		o.routers, o.printer = []*lab.Host{hb, spare}, printer
		return ha, hb, errors.Join(err1, err2, err3, err4)
	})
	if err != nil {
		return nil, err
	}
	for _, host := range append(slices.Clone(o.routers), o.a) {
		m, err := o.machine(ctx, host, host.Name)
		if err == nil {
			err = m.Up(ctx, o.server, o.server.SetupKeyFile)
		}
		if err != nil {
			return nil, errors.Join(err, o.Close())
		}
		o.visitor = m
	}
	return o, nil
}

// declare makes a network of the office's subnet, with both routers, that every machine may use.
func (o *office) declare(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	peers, err := client.ListPeers(ctx, sdk.ListPeersOptions{})
	if err != nil {
		return err
	}
	all, err := client.ListGroups(ctx, sdk.ListGroupsOptions{Name: "All"})
	if err != nil || len(all) != 1 {
		return fmt.Errorf("find the group of all machines among %d: %w", len(all), err)
	}
	group, err := client.CreateGroup(ctx, api.GroupRequest{Name: "office"})
	if err != nil {
		return err
	}
	network, err := client.CreateNetwork(ctx, api.NetworkRequest{Name: "office"})
	if err != nil {
		return err
	}
	for i, router := range o.routers {
		at := slices.IndexFunc(peers, func(p api.Peer) bool { return p.Hostname == router.Name })
		if at < 0 {
			return fmt.Errorf("%s is no peer", router.Name)
		}
		metric, masquerade := 10*(i+1), true
		request := api.NetworkRouterRequest{Metric: &metric, Masquerade: &masquerade}
		request.Peer.Set(peers[at].Id)
		if _, err := client.CreateNetworkRouter(ctx, network.Id, request); err != nil {
			return err
		}
	}
	subnet := netip.PrefixFrom(o.printer.Addr, 24).Masked().String()
	if _, err := client.CreateNetworkResource(ctx, network.Id, api.NetworkResourceRequest{Name: "LAN", Address: subnet, Groups: &[]string{group.Id}}); err != nil {
		return err
	}
	rule := api.PolicyRuleRequest{Name: "all"}
	rule.Sources.Set([]string{all[0].Id})
	rule.Destinations.Set([]string{group.Id})
	oneWay := false
	rule.Bidirectional = &oneWay
	_, err = client.CreatePolicy(ctx, api.PolicyRequest{Name: "office", Rules: []api.PolicyRuleRequest{rule}})
	return err
}

// leads waits until the traffic of the subnet goes through a router.
func (o *office) leads(ctx context.Context, router string) error {
	for range 1000 {
		_, failed := o.a.Command(ctx, "ping", "-n", "-c", "1", "-W", "1", o.printer.Addr.String()).Output()
		out, err := o.visitor.Wattle(ctx, "status", "--json")
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if failed == nil && strings.Contains(strings.ReplaceAll(out, " ", ""), fmt.Sprintf(`"router":%q`, router)) {
			return nil
		}
	}
	return fmt.Errorf("the subnet is not reached through %s", router)
}

// connected waits until a machine whose link was away answers again.
func (o *office) connected(ctx context.Context, name string) error {
	for range 1000 {
		if _, err := o.visitor.Wattle(ctx, "ping", name, "-n", "1"); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s does not come back", name)
}

// link brings a host's interface up or down, as when a cable is pulled, which takes its routes along.
func link(ctx context.Context, host *lab.Host, state string) error {
	return ip(ctx, host, "link", "set", "eth0", state)
}

// plug brings the interface of a host of a LAN up again, and its way out.
func plug(ctx context.Context, host *lab.Host) error {
	return errors.Join(link(ctx, host, "up"), ip(ctx, host, "route", "replace", "default", "via", gateway(host).String(), "dev", "eth0"))
}
