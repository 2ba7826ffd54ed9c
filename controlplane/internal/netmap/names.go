package netmap

import "github.com/wattlenet/wattle/generated/api"

// ZonePut says that a DNS zone exists and how it looks now; its records stay as they are.
type ZonePut struct{ Zone Zone }

// ZoneRemove says that a DNS zone is gone, its records too. An unknown id changes nothing.
type ZoneRemove struct{ ID string }

// RecordPut says that a record of a DNS zone exists and how it looks now. The zone of a record never changes.
type RecordPut struct{ Record Record }

// RecordRemove says that a record is gone. An unknown id changes nothing.
type RecordRemove struct{ ID string }

// NameserverPut says that a nameserver group exists and how it looks now.
type NameserverPut struct{ Nameserver Nameserver }

// NameserverRemove says that a nameserver group is gone. An unknown id changes nothing.
type NameserverRemove struct{ ID string }

// DNSSettingsPut says whose names the network leaves alone.
type DNSSettingsPut struct {
	// Unmanaged holds ids of groups; a peer in one of them gets no zones and no nameservers.
	Unmanaged []string
}

func (ZonePut) change()          {}
func (ZoneRemove) change()       {}
func (RecordPut) change()        {}
func (RecordRemove) change()     {}
func (NameserverPut) change()    {}
func (NameserverRemove) change() {}
func (DNSSettingsPut) change()   {}

// A Zone is a domain whose records some peers know.
type Zone struct {
	ID, Domain string
	// Search says whether the domain is a search domain too.
	Search bool
	// Groups holds the ids of the groups whose peers know the zone; none for a zone that does not count.
	Groups []string
}

// A Record is a record of a DNS zone.
type Record struct {
	ID, Zone string
	// Name is the full name, with *. in front for all names below it.
	Name string
	// Type is A, AAAA or CNAME, and Content the address or the other name.
	Type, Content string
	// TTL is in seconds.
	TTL uint32
}

// A Nameserver is a group of DNS servers that some peers ask.
type Nameserver struct {
	ID string
	// Servers are asked in their order.
	Servers []api.Nameserver
	// Domains are those whose names the servers are asked for; none means every name.
	Domains []string
	// Search says whether the domains are search domains too.
	Search bool
	// Groups holds the ids of the groups whose peers ask the servers; none for servers that do not count.
	Groups []string
}

func (z Zone) view() api.ZoneView { return api.ZoneView{Id: z.ID, Domain: z.Domain, Search: z.Search} }

func (r Record) view() api.RecordView {
	return api.RecordView{Id: r.ID, Zone: r.Zone, Name: r.Name, Type: api.RecordViewType(r.Type), Content: r.Content, Ttl: r.TTL}
}

func (n Nameserver) view() api.NameserverView {
	return api.NameserverView{
		Id: n.ID, Servers: append([]api.Nameserver{}, n.Servers...), Domains: append([]string{}, n.Domains...), Search: n.Search,
	}
}
