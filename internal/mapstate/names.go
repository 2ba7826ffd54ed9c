package mapstate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
)

// Names is the DNS of a map: what the network knows besides the names of peers.
type Names struct {
	// Zones, Records and Nameservers hold the items by their ids; the zone of a record is among Zones.
	Zones       table.Table[string, api.ZoneView]
	Records     table.Table[string, api.RecordView]
	Nameservers table.Table[string, api.NameserverView]
}

// Same reports whether two are one, without looking at the items.
func (n Names) Same(o Names) bool {
	return n.Zones.Same(o.Zones) && n.Records.Same(o.Records) && n.Nameservers.Same(o.Nameservers)
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
	return equal(n.Zones, o.Zones, table.Equal) && equal(n.Records, o.Records, table.Equal) && equal(n.Nameservers, o.Nameservers, equalNameservers)
}

func equalNameservers(a, b api.NameserverView) bool {
	return a.Id == b.Id && a.Search == b.Search && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Domains, b.Domains)
}

func (c *change) upsertZone(zone *api.ZoneView) error {
	if zone == nil {
		return errIncomplete
	}
	if err := c.take(checkZone(*zone)); err != nil {
		return err
	}
	keep(c, c.zones, zone.Id, *zone, HashZone)
	return nil
}

func checkZone(z api.ZoneView) error {
	if detail := api.WrongSpelling("dns-name", z.Domain); detail != "" {
		return fmt.Errorf("the domain of the DNS zone %s %s", z.Id, detail)
	}
	return nil
}

func (c *change) removeZone(id *string) error {
	for _, record := range c.records.All() {
		if id != nil && record.Zone == *id {
			return fmt.Errorf("the record %s is still in the DNS zone %s", record.Id, *id)
		}
	}
	return drop(c, c.zones, id, "DNS zone", HashZone)
}

func (c *change) upsertRecord(record *api.RecordView) error {
	if record == nil {
		return errIncomplete
	}
	if err := c.take(c.checkRecord(*record)); err != nil {
		return err
	}
	keep(c, c.records, record.Id, *record, HashRecord)
	return nil
}

func (c *change) checkRecord(r api.RecordView) error {
	zone, known := c.zones.Get(r.Zone)
	if !known {
		return fmt.Errorf("the record %s names the unknown DNS zone %s", r.Id, r.Zone)
	}
	if err := answerable(r, zone.Domain); err != nil {
		return fmt.Errorf("the record %s: %w", r.Id, err)
	}
	return nil
}

// answerable refuses what a resolver could not answer: it must fail here, loudly, and not in an answer.
func answerable(r api.RecordView, domain string) error {
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
	return drop(c, c.records, id, "DNS record", HashRecord)
}

func (c *change) upsertNameserver(group *api.NameserverView) error {
	if group == nil {
		return errIncomplete
	}
	if err := c.take(checkNameserver(*group)); err != nil {
		return err
	}
	keep(c, c.nameservers, group.Id, *group, HashNameserver)
	return nil
}

func checkNameserver(group api.NameserverView) error {
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
	return nil
}

func (c *change) removeNameserver(id *string) error {
	return drop(c, c.nameservers, id, "nameserver group", HashNameserver)
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
