package engine

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/mapstate"
)

func (d *desired) planDNS() {
	d.dns = dns.Config{Domain: d.self.view.DnsDomain, Networks: d.networks(), Hosts: d.crowd.hosts}
	if d.self.view.KeepsDns {
		return // names are known to ping; nobody on this machine is told to ask
	}
	for _, address := range d.tunnel.Addresses {
		d.dns.Addresses = append(d.dns.Addresses, address.Addr())
	}
	d.dns.Zones, d.dns.Nameservers = d.zones, slices.Clip(d.nameservers)
}

// zones are the DNS zones of the map with their records, in the order of their ids,
// without those that have a fault.
func zones(names mapstate.Names, bad map[mapstate.Kind]map[string]bool) (list []dns.Zone) {
	at := map[string]int{}
	for _, id := range slices.Sorted(names.Zones.Keys()) {
		if bad[mapstate.KindZone][id] {
			continue
		}
		at[id] = len(list)
		zone := names.Zones.At(id)
		list = append(list, dns.Zone{Domain: zone.Domain, Search: zone.Search})
	}
	for _, id := range slices.Sorted(names.Records.Keys()) {
		r := names.Records.At(id)
		zone, known := at[r.Zone]
		if !known || bad[mapstate.KindRecord][id] {
			continue
		}
		record := dns.Record{Name: r.Name, TTL: r.Ttl}
		if addr, err := netip.ParseAddr(r.Content); err == nil {
			record.Addr = addr
		} else {
			record.Target = r.Content // it has no fault
		}
		list[zone].Records = append(list[zone].Records, record)
	}
	return list
}

// nameservers are the nameserver groups of the map in the order of their ids,
// without those that have a fault.
func nameservers(names mapstate.Names, bad map[string]bool) (list []dns.Nameservers) {
	for _, id := range slices.Sorted(names.Nameservers.Keys()) {
		if bad[id] {
			continue
		}
		group := names.Nameservers.At(id)
		out := dns.Nameservers{Domains: group.Domains, Search: group.Search}
		for _, server := range group.Servers {
			addr, _ := netip.ParseAddr(server.Ip) // it has no fault
			out.Servers = append(out.Servers, dns.Server{Addr: netip.AddrPortFrom(addr, uint16(server.Port)), Over: dns.Transport(server.NsType), Name: server.TlsName})
		}
		list = append(list, out)
	}
	return list
}

// planNames decides what the programs of this machine ask the resolver for; where it
// is asked is known once it answers. The
// domain of the peers comes first, then zones and groups in the order of the map.
func (d *desired) planNames(name string) {
	if len(d.dns.Addresses) == 0 || name == "" {
		return
	}
	d.dns.Elsewhere = true
	c := system.Config{Interface: name}
	add := func(domain string, search bool) {
		if domain == "" {
			return
		}
		if !slices.Contains(c.Match, domain) {
			c.Match = append(c.Match, domain)
		}
		if search && !slices.Contains(c.Search, domain) {
			c.Search = append(c.Search, domain)
		}
	}
	add(d.dns.Domain, true)
	for _, zone := range d.dns.Zones {
		add(zone.Domain, zone.Search)
	}
	for _, group := range d.dns.Nameservers {
		for _, domain := range group.Domains {
			add(domain, group.Search)
		}
		c.All = c.All || len(group.Domains) == 0
	}
	for _, network := range d.dns.Networks {
		for _, domain := range dns.ReverseDomains(network) {
			add(domain, false)
		}
	}
	d.names = c
}

// noDNS is the DNS of a machine that is not connected.
func noDNS() local.DNS {
	return local.DNS{Addresses: []string{}, Domains: []string{}, Search: []string{}, Groups: []local.NameserverGroup{}, FormerServers: []string{}}
}

// describeDNS tells what the resolver knows and who asks it.
func (l *link) describeDNS(wanted *desired) local.DNS {
	status := l.machine.Names.Status()
	d := noDNS()
	at, note := l.machine.Resolver.Serving()
	for _, server := range at {
		text := server.String()
		if server.Port() == dns.Port {
			text = server.Addr().String()
		}
		d.Addresses = append(d.Addresses, text)
	}
	d.Domain, d.Kind, d.Set, d.AllNames = wanted.self.view.DnsDomain, string(status.Kind), len(status.Set.Servers) > 0, status.Set.All
	d.Error = strings.Join(slices.DeleteFunc([]string{note, status.Note}, func(s string) bool { return s == "" }), "; ")
	d.Domains, d.Search = append(d.Domains, status.Set.Match...), append(d.Search, status.Set.Search...)
	for _, server := range status.Former.Servers {
		d.FormerServers = append(d.FormerServers, server.String())
	}
	for _, group := range wanted.dns.Nameservers {
		described := local.NameserverGroup{Servers: []string{}, Domains: append([]string{}, group.Domains...)}
		for _, server := range group.Servers {
			described.Servers = append(described.Servers, server.String())
		}
		d.Groups = append(d.Groups, described)
	}
	return d
}
