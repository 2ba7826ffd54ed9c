package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/table"
)

// desired is what one state of the map means for this machine. It is a value,
// made from the map and the value of a former map, with which it shares what has
// not changed: so a change costs what it changes. The parts of the agent are told
// of it by Set, and find the change in the same way.
type desired struct {
	m     *mapstate.Map // what it was made of
	crowd crowd
	self  self
	terms
	odd []refusal // of what the map says of this machine

	tunnel   tunnel.Settings
	paths    table.Table[string, connectivity.Peer]
	firewall firewall.Config
	dns      dns.Config
	names    system.Config // zero: the machine asks as before
	routing  route.Config
	keys     postquantum.Mode
	kept     bool // a path is kept open to every peer

	strangers []string // names that settings of paths have, and no peer

	exit         exit
	destinations []*destination               // by name
	watched      map[string]bool              // ids of peers whose place another can take
	modes        map[string]connectivity.Mode // by id, of peers whose paths this machine restricts

	turn time.Time // when a rule next begins or ends; zero for never

	lacking string // why this machine is not reached by IPv6; empty when it is
}

// self is this machine in the map.
type self struct {
	ipv4, ipv6 netip.Prefix // each with the length of the network
	view       api.SelfView
}

// terms are what the map says besides other machines: little, and seldom
// changed. They are read anew when one of them is other.
type terms struct {
	faults      []refusal
	rules       []api.CompiledRule // in force
	routes      map[string]firewall.Destination
	zones       []dns.Zone
	nameservers []dns.Nameservers
}

// plan makes the desired state of a map out of the one of a former map; the zero
// value is the one of no map. The map passed its digest, so what cannot be followed
// in it is a fault of the control plane: it is refused, and the rest is in force.
func plan(former *desired, m *mapstate.Map, name string) *desired {
	d := &desired{m: m, self: self{view: m.Self}, terms: former.terms}
	d.self.ipv4 = d.readOwn(m.Self.Ip, m.Self.Network)
	d.self.ipv6 = d.readOwn(m.Self.Ipv6, m.Self.NetworkV6)
	d.crowd = former.crowd.follow(m, d.self)
	if former.m == nil || !sameTerms(former.m, m) {
		d.terms = readTerms(m)
	}
	for _, address := range []netip.Prefix{d.self.ipv4, d.self.ipv6} {
		if address.IsValid() {
			d.tunnel.Addresses = append(d.tunnel.Addresses, address)
		}
	}
	d.firewall = firewall.Config{
		Interface: name, Self: m.Self.N, Peers: d.crowd.addresses, Networks: d.networks(), Sets: m.Sets, Rules: d.rules, Routes: d.terms.routes,
	}
	d.planDNS()
	d.planNames(name)
	d.planRoutes()
	return d
}

// sameTerms reports whether two maps differ in machines and in members of sets at
// most.
func sameTerms(a, b *mapstate.Map) bool {
	for _, set := range table.Diff(a.Sets, b.Sets, table.Equal) {
		if set.Was == nil || set.Is == nil {
			return false
		}
	}
	return a.Rules.Same(b.Rules) && a.Routes.Same(b.Routes) && a.Names.Same(b.Names)
}

func readTerms(m *mapstate.Map) terms {
	faults := m.Faults()
	t := terms{faults: refusals(faults), rules: m.InForce(), routes: map[string]firewall.Destination{}}
	bad := map[mapstate.Kind]map[string]bool{}
	for _, fault := range faults {
		if bad[fault.Kind] == nil {
			bad[fault.Kind] = map[string]bool{}
		}
		bad[fault.Kind][fault.ID] = true
	}
	for id, view := range m.Routes.All() {
		if !bad[mapstate.KindRoute][id] {
			prefix, _ := netip.ParsePrefix(deref(view.Prefix)) // has no fault
			t.routes[id] = firewall.Destination{Prefix: prefix, Masquerade: deref(view.Masquerade)}
		}
	}
	for _, view := range sortedRoutes(m) {
		if _, usable := t.routes[view.Id]; usable {
			t.rules = append(t.rules, asking(m, view)...)
		}
	}
	t.zones = zones(m.Names, bad)
	t.nameservers = nameservers(m.Names, bad[mapstate.KindNameserver])
	return t
}

// readOwn reads an address of this machine. One that is none is refused.
func (d *desired) readOwn(address, network string) netip.Prefix {
	own, err := within(address, network)
	if err != nil {
		d.odd = append(d.odd, refusal{kind: "address", name: address, reason: "the own address of this machine: " + err.Error()})
	}
	return own
}

func within(address, network string) (netip.Prefix, error) {
	if address == "" {
		return netip.Prefix{}, nil
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !prefix.Contains(addr) {
		return netip.Prefix{}, fmt.Errorf("%s lies outside of %s", addr, prefix)
	}
	return netip.PrefixFrom(addr, prefix.Bits()), nil
}

// require takes what this machine wants of sessions and paths.
func (d *desired) require(v settings.Values) {
	d.keys, d.kept = postquantum.Mode(v.PostQuantum), !v.LazyConnections
	d.tunnel.RequirePresharedKey = d.keys == postquantum.Strict
}

// withoutIPv6 lets nothing on this machine use the address of that version, which
// the interface does not have.
func (d *desired) withoutIPv6(why error) {
	d.lacking = fmt.Sprintf("%v: it is reached at %s only; nothing has to be done unless it shall be reached by IPv6 too", why, d.self.ipv4.Addr())
	d.tunnel.Addresses = slices.DeleteFunc(d.tunnel.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
	d.dns.Addresses = slices.DeleteFunc(d.dns.Addresses, netip.Addr.Is6)
}

func (d *desired) networks() []netip.Prefix {
	var networks []netip.Prefix
	for _, address := range []netip.Prefix{d.self.ipv4, d.self.ipv6} {
		if address.IsValid() {
			networks = append(networks, address.Masked())
		}
	}
	return networks
}

// addresses lists the overlay addresses as text.
func addresses(list ...netip.Addr) []string {
	text := []string{}
	for _, addr := range list {
		if addr.IsValid() {
			text = append(text, addr.String())
		}
	}
	return text
}
