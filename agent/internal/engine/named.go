package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// Choices of ours about routes that are given by names.
const (
	// namedLife is how long an address of a name stays in its route at least: flows
	// outlive the few seconds for which an answer may be remembered.
	namedLife = time.Hour

	// keptLife is the same where the route keeps addresses that a name had before.
	keptLife = 30 * 24 * time.Hour

	// namedLimit bounds the addresses of one route.
	namedLimit = 1024

	// learnLimit is how long an answer waits until packets may go where it leads.
	learnLimit = 2 * time.Second

	askAgain = 2 * time.Second // the limit of a question to a new router
)

// Names take this way, so that a router lets nobody go where its own answer did
// not lead:
//
//	application -> resolver here -> resolver of the router -> its name servers
//	                                  | lets the addresses through
//	                  | leads them to the router, lets them out
//	            <- answer
//
// meanings is what the names of destinations were found to mean.
type meanings struct {
	mu    sync.Mutex // guards known
	known map[string]map[netip.Addr]meaning
}

type meaning struct {
	name string
	ends time.Time
}

// add notes addresses and reports whether one of them is new.
func (m *meanings) add(key, name string, addrs []netip.Addr, now time.Time, life time.Duration) (fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]map[netip.Addr]meaning{}
	}
	known := m.known[key]
	if known == nil {
		known = map[netip.Addr]meaning{}
		m.known[key] = known
	}
	maps.DeleteFunc(known, func(_ netip.Addr, is meaning) bool { return !is.ends.After(now) })
	for _, addr := range addrs {
		former, met := known[addr]
		if !met && len(known) >= namedLimit {
			delete(known, soonest(known))
		}
		fresh = fresh || !met
		if ends := now.Add(life); ends.After(former.ends) {
			known[addr] = meaning{name: name, ends: ends}
		}
	}
	return fresh
}

func soonest(known map[netip.Addr]meaning) netip.Addr {
	return slices.MinFunc(slices.Collect(maps.Keys(known)), func(a, b netip.Addr) int { return known[a].ends.Compare(known[b].ends) })
}

// of returns the addresses of a destination, in order.
func (m *meanings) of(key string, now time.Time) (addrs []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for addr, is := range m.known[key] {
		if is.ends.After(now) {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// names returns the names that were asked for of a destination.
func (m *meanings) names(key string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	met := map[string]bool{}
	for _, is := range m.known[key] {
		met[is.name] = true
	}
	return slices.Sorted(maps.Keys(met))
}

// holds reports whether a name, in lower case without a final dot, is one of the
// destination: a domain itself, or with *. in front any name below it.
func (d *destination) holds(name string) bool {
	return slices.ContainsFunc(d.domains(), func(domain string) bool {
		if below, wild := strings.CutPrefix(domain, "*."); wild {
			return strings.HasSuffix(name, "."+strings.ToLower(below))
		}
		return name == strings.ToLower(domain)
	})
}

// answered takes what a name turned out to be. When it returns, packets go
// where the answer leads.
func (l *link) answered(ctx context.Context, a dns.Answered) {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil {
		return
	}
	fresh := false
	for _, d := range wanted.destinations {
		if d.prefix.IsValid() || d.refusal != "" || !d.holds(a.Name) {
			continue
		}
		addrs := slices.DeleteFunc(slices.Clone(a.Addrs), func(addr netip.Addr) bool {
			return wanted.refusal(netip.PrefixFrom(addr, addr.BitLen())) != "" || addr.IsUnspecified()
		})
		if len(addrs) == 0 {
			continue
		}
		life := max(a.TTL, namedLife)
		for _, view := range d.views {
			if deref(view.KeepRoute) {
				life = keptLife
			}
		}
		fresh = l.meanings.add(d.key, a.Name, addrs, time.Now(), life) || fresh
		for _, view := range d.views {
			if err := l.machine.Firewall.Learn(view.Id, addrs, life); err != nil {
				l.log.Debug("nobody may go to a name", "route", view.Name, "error", err)
			}
		}
	}
	if fresh {
		l.applyNow(ctx)
	}
}

// applyNow makes the loop apply the map that it has, and waits for it within
// reason.
func (l *link) applyNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, learnLimit)
	defer cancel()
	done := make(chan struct{})
	select {
	case l.urgent <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// asking are the rules that let the users of a route that is given by names ask
// its routers for them.
func asking(m *mapstate.Map, view api.CompiledRoute) (rules []api.CompiledRule) {
	if view.Domains == nil {
		return nil
	}
	ask := func(id string, direction api.CompiledRuleDirection, source, destination string) {
		for _, protocol := range []api.CompiledRuleProtocol{"udp", "tcp"} {
			rules = append(rules, api.CompiledRule{
				Id: "dns-" + id, Direction: direction, Source: source, Destination: destination, Action: api.CompiledRuleActionAccept,
				Protocol: protocol, Ports: &[]api.PortRange{{Start: dns.Port, End: dns.Port}},
			})
		}
	}
	if view.Role == api.CompiledRouteRoleUse {
		for _, routers := range deref(view.Routers) {
			ask(view.Id+routers.Set, api.CompiledRuleDirectionOut, "", routers.Set)
		}
		return rules
	}
	for _, id := range slices.Sorted(m.Rules.Keys()) {
		rule := m.Rules.At(id)
		if rule.Direction == api.CompiledRuleDirectionForward && rule.Destination == view.Id && rule.Action == api.CompiledRuleActionAccept {
			ask(view.Id+rule.Source, api.CompiledRuleDirectionIn, rule.Source, "")
		}
	}
	return rules
}

// leadNames tells the resolver whom to ask for the names of routes, and for
// which names others may ask.
func (d *desired) leadNames() {
	for _, x := range d.destinations {
		if x.prefix.IsValid() || x.refusal != "" {
			continue
		}
		domains := make([]string, 0, len(x.domains()))
		for _, domain := range x.domains() {
			domains = append(domains, strings.TrimPrefix(domain, "*."))
		}
		if x.serves() {
			d.dns.Shared = append(d.dns.Shared, domains...)
			continue
		}
		var servers []dns.Server
		for _, candidate := range x.candidates {
			server := dns.Server{Addr: netip.AddrPortFrom(d.addressOf(candidate.Peer), dns.Port)}
			if candidate.Peer == x.router {
				servers = slices.Insert(servers, 0, server)
			} else {
				servers = append(servers, server)
			}
		}
		d.dns.Nameservers = append(d.dns.Nameservers, dns.Nameservers{Domains: domains, Servers: servers})
	}
	if d.names.Interface != "" { // the machine asks the resolver, now for these names as well
		d.planNames(d.names.Interface)
	}
	if len(d.dns.Shared) > 0 && len(d.dns.Addresses) == 0 {
		for _, address := range d.tunnel.Addresses {
			d.dns.Addresses = append(d.dns.Addresses, address.Addr())
		}
	}
}

// addressOf returns an overlay address of a peer.
func (d *desired) addressOf(id string) netip.Addr {
	p, _ := d.crowd.withID(id)
	if p.ipv4.IsValid() {
		return p.ipv4
	}
	return p.ipv6
}

// askMoved asks the new routers of destinations for the names that were asked of
// the former ones: a router carries what its own answers lead to.
func (l *link) askMoved(ctx context.Context, former, wanted *desired) {
	if former == nil {
		return
	}
	routers := map[string]string{}
	for _, d := range former.destinations {
		routers[d.key] = d.router
	}
	for _, d := range wanted.destinations {
		if d.prefix.IsValid() || d.serves() || d.router == "" || routers[d.key] == "" || routers[d.key] == d.router {
			continue
		}
		server, names := netip.AddrPortFrom(wanted.addressOf(d.router), dns.Port), l.meanings.names(d.key)
		l.tasks.Go(func() {
			for _, name := range names {
				l.askRouter(ctx, server, name)
			}
		})
	}
}

// askRouter asks for the addresses of a name. The answer matters at the router only.
func (l *link) askRouter(ctx context.Context, server netip.AddrPort, name string) {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	for _, kind := range []uint16{wire.TypeA, wire.TypeAAAA} {
		conn, err := l.machine.Network.Dial(ctx, "udp", server)
		if err != nil {
			return
		}
		client := wire.Client{Timeout: askAgain}
		_, _, err = client.ExchangeWithConnContext(ctx, new(wire.Msg).SetQuestion(wire.Fqdn(name), kind), &wire.Conn{Conn: conn})
		_ = conn.Close()
		if err != nil {
			l.log.Debug("a router does not answer for a name", "name", name, "error", err)
		}
	}
}
