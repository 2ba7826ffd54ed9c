package mapstate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// Names is the DNS of a map: what the network knows besides the names of peers.
type Names struct {
	// Zones, Records and Nameservers hold the items by their ids; the zone of a record is among Zones.
	Zones       map[string]api.ZoneView
	Records     map[string]api.RecordView
	Nameservers map[string]api.NameserverView
}

func newNames() Names {
	return Names{Zones: map[string]api.ZoneView{}, Records: map[string]api.RecordView{}, Nameservers: map[string]api.NameserverView{}}
}

// HashZone is the hash of a DNS zone without its records.
func HashZone(z api.ZoneView) Digest {
	return newItem('z').text(z.Id, z.Domain).number(flag(z.Search)).sum()
}

// HashRecord is the hash of a record of a DNS zone.
func HashRecord(r api.RecordView) Digest {
	return newItem('d').text(r.Id, r.Zone, r.Name, string(r.Type), r.Content).number(r.Ttl).sum()
}

// HashNameserver is the hash of a nameserver group.
func HashNameserver(n api.NameserverView) Digest {
	i := newItem('n').text(n.Id).number(flag(n.Search)).number(uint32(len(n.Servers)))
	for _, server := range n.Servers {
		i = i.text(server.Ip, string(server.NsType), server.TlsName).number(uint32(server.Port))
	}
	return i.text(n.Domains...).sum()
}

func flag(is bool) uint32 {
	if is {
		return 1
	}
	return 0
}

func (n Names) equal(o Names) bool {
	return maps.Equal(n.Zones, o.Zones) && maps.Equal(n.Records, o.Records) && maps.EqualFunc(n.Nameservers, o.Nameservers, equalNameservers)
}

// byID lists the values of a map in the order of its keys.
func byID[V any](m map[string]V) (list []V) {
	for _, id := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[id])
	}
	return list
}

func equalNameservers(a, b api.NameserverView) bool {
	return a.Id == b.Id && a.Search == b.Search && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Domains, b.Domains)
}

// keep puts a value into one of the maps, or takes it out, so that it can be undone.
func keep[V any](c *change, into map[string]V, id string, value *V, hash func(V) Digest) {
	before, known := into[id]
	if known {
		c.Map.digest = c.Map.digest.Minus(hash(before))
		c.back = append(c.back, func() { into[id] = before })
	} else {
		c.back = append(c.back, func() { delete(into, id) })
	}
	if value == nil {
		delete(into, id)
		return
	}
	into[id] = *value
	c.Map.digest = c.Map.digest.Plus(hash(*value))
}

// drop takes what is known under an id out of one of the maps.
func drop[V any](c *change, from map[string]V, id *string, noun string, hash func(V) Digest) error {
	if id == nil {
		return errIncomplete
	}
	if _, known := from[*id]; !known {
		return fmt.Errorf("no %s %s is known", noun, *id)
	}
	keep(c, from, *id, nil, hash)
	return nil
}

func (c *change) upsertZone(zone *api.ZoneView) error {
	if zone == nil {
		return errIncomplete
	}
	if detail := api.WrongSpelling("dns-name", zone.Domain); detail != "" {
		return fmt.Errorf("the domain of the DNS zone %s %s", zone.Id, detail)
	}
	keep(c, c.Names.Zones, zone.Id, zone, HashZone)
	return nil
}

func (c *change) removeZone(id *string) error {
	for _, record := range c.Names.Records {
		if id != nil && record.Zone == *id {
			return fmt.Errorf("the record %s is still in the DNS zone %s", record.Id, *id)
		}
	}
	return drop(c, c.Names.Zones, id, "DNS zone", HashZone)
}

func (c *change) upsertRecord(record *api.RecordView) error {
	if record == nil {
		return errIncomplete
	}
	zone, known := c.Names.Zones[record.Zone]
	if !known {
		return fmt.Errorf("the record %s names the unknown DNS zone %s", record.Id, record.Zone)
	}
	if err := checkRecord(*record, zone.Domain); err != nil {
		return fmt.Errorf("the record %s: %w", record.Id, err)
	}
	keep(c, c.Names.Records, record.Id, record, HashRecord)
	return nil
}

// checkRecord refuses what a resolver could not answer: it must fail here, loudly, and not in an answer.
func checkRecord(r api.RecordView, domain string) error {
	if detail := api.WrongSpelling("wildcard-dns-name", r.Name); detail != "" {
		return fmt.Errorf("the name %s", detail)
	}
	if name := strings.TrimPrefix(r.Name, "*."); name != domain && !strings.HasSuffix(name, "."+domain) {
		return fmt.Errorf("the name %s is not in %s", r.Name, domain)
	}
	format, known := map[api.RecordViewType]string{api.RecordViewTypeA: "ipv4", api.RecordViewTypeAAAA: "ipv6", api.RecordViewTypeCNAME: "dns-name"}[r.Type]
	if !known {
		return fmt.Errorf("unknown type %q", r.Type)
	}
	if detail := api.WrongSpelling(format, r.Content); detail != "" {
		return fmt.Errorf("the content %s", detail)
	}
	return nil
}

func (c *change) removeRecord(id *string) error {
	return drop(c, c.Names.Records, id, "DNS record", HashRecord)
}

func (c *change) upsertNameserver(group *api.NameserverView) error {
	if group == nil {
		return errIncomplete
	}
	for _, server := range group.Servers {
		if _, err := netip.ParseAddr(server.Ip); err != nil || server.Port < 1 || server.Port > 65535 {
			return fmt.Errorf("the nameserver group %s has no server at %q, port %d", group.Id, server.Ip, server.Port)
		}
	}
	for _, domain := range group.Domains {
		if detail := api.WrongSpelling("dns-name", domain); detail != "" {
			return fmt.Errorf("a domain of the nameserver group %s %s", group.Id, detail)
		}
	}
	keep(c, c.Names.Nameservers, group.Id, group, HashNameserver)
	return nil
}

func (c *change) removeNameserver(id *string) error {
	return drop(c, c.Names.Nameservers, id, "nameserver group", HashNameserver)
}

// fillNames puts the DNS of a whole map into an empty one.
func (c *change) fillNames(all Content) error {
	for i := range all.Zones {
		if err := c.upsertZone(&all.Zones[i]); err != nil {
			return err
		}
	}
	for i := range all.Records {
		if err := c.upsertRecord(&all.Records[i]); err != nil {
			return err
		}
	}
	for i := range all.Nameservers {
		if err := c.upsertNameserver(&all.Nameservers[i]); err != nil {
			return err
		}
	}
	return nil
}
