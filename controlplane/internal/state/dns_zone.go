package state

import (
	"context"
	"errors"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// dnsMemory is what an account keeps of its names.
type dnsMemory struct {
	settings    ordered[object[dnsSettingsBody]]
	zones       ordered[object[zoneBody]]
	records     ordered[object[recordBody]]
	recordsOf   index // zone -> its records
	nameservers ordered[object[nameserverBody]]
}

// zoneBody is what is kept of a DNS zone besides its name.
type zoneBody struct {
	Domain       string   `json:"domain"`
	Enabled      bool     `json:"enabled"`
	Search       bool     `json:"enable_search_domain"`
	Distribution []string `json:"distribution_groups"`
}

// dnsZones is the noun of the domains whose records the network knows.
var dnsZones = &noun[zoneBody, api.DnsZone]{
	kind: store.KindDNSZone, title: "DNS zone",
	creating: api.PermissionDnsCreate, changing: api.PermissionDnsUpdate, deleting: api.PermissionDnsDelete,
	in:     func(a *account) *ordered[object[zoneBody]] { return &a.dns.zones },
	unique: func(_ string, b zoneBody) (string, string) { return "domain", b.Domain },
	refs:   func(b zoneBody) []store.Ref { return groupRefs("distribution_groups", b.Distribution) },
	show:   (*account).showZone,
	compiled: func(_ *account, z object[zoneBody]) []netmap.Change {
		zone := netmap.Zone{ID: z.ID, Domain: z.Body.Domain, Search: z.Body.Search}
		if z.Body.Enabled {
			zone.Groups = z.Body.Distribution
		}
		return []netmap.Change{netmap.ZonePut{Zone: zone}}
	},
	gone: func(_ *account, z object[zoneBody]) []netmap.Change {
		return []netmap.Change{netmap.ZoneRemove{ID: z.ID}}
	},
}

func (a *account) showZone(z object[zoneBody]) api.DnsZone {
	records := []api.ZoneRecord{}
	for _, id := range a.dns.recordsOf.ids(z.ID) {
		r := a.dns.records.byID[id]
		records = append(records, api.ZoneRecord{Id: r.ID, Name: r.Name, Type: api.ZoneRecordType(r.Body.Type), Content: r.Body.Content, Ttl: r.Body.TTL})
	}
	return api.DnsZone{
		Id: z.ID, Name: z.Name, Domain: z.Body.Domain, Enabled: z.Body.Enabled, EnableSearchDomain: z.Body.Search,
		DistributionGroups: z.Body.Distribution, Records: records, Version: z.Version,
	}
}

// ListDNSZones lists the DNS zones with their records.
func (s *State) ListDNSZones(_ context.Context, p auth.Principal, params api.ListDnsZonesParams) ([]api.DnsZone, string, error) {
	return dnsZones.list(s, p, page{params.Ids, params.Limit, params.Cursor}, func(z object[zoneBody]) bool {
		return withName[zoneBody](params.Name)(z) && (params.Domain == nil || z.Body.Domain == *params.Domain)
	})
}

// GetDNSZone reads a DNS zone with its records.
func (s *State) GetDNSZone(_ context.Context, p auth.Principal, id string) (api.DnsZone, error) {
	return dnsZones.get(s, p, "", id)
}

// CreateDNSZone creates a DNS zone without records. A domain that another zone
// has is a conflict; the domain of the peers is invalid.
func (s *State) CreateDNSZone(ctx context.Context, p auth.Principal, req api.DnsZoneRequest) (answer api.DnsZone, err error) {
	req.ApplyDefaults()
	return dnsZones.create(ctx, s, p, func(w *write) (string, zoneBody, error) {
		var more []problem.FieldError
		if req.Domain == w.account.DNSDomain {
			more = append(more, problem.Field("domain", "%s is the domain of the peers; choose one below it or another one", req.Domain))
		}
		body, err := w.zoneBody(req)
		return req.Name, body, together(faults(req.Validate(), more...), err)
	})
}

// UpdateDNSZone replaces a DNS zone; its records stay. Another domain is invalid.
func (s *State) UpdateDNSZone(ctx context.Context, p auth.Principal, id string, req api.DnsZoneRequest, ifMatch string) (api.DnsZone, error) {
	req.ApplyDefaults()
	return dnsZones.update(ctx, s, p, "", id, ifMatch, func(w *write, had object[zoneBody]) (string, zoneBody, error) {
		var more []problem.FieldError
		if req.Domain != had.Body.Domain {
			more = append(more, problem.Field("domain", "cannot be changed and stays %s; make another zone", had.Body.Domain))
		}
		body, err := w.zoneBody(req)
		return req.Name, body, together(faults(req.Validate(), more...), err)
	})
}

// DeleteDNSZone removes a DNS zone and its records.
func (s *State) DeleteDNSZone(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return dnsZones.delete(ctx, s, p, "", id, ifMatch, func(w *write, zone object[zoneBody]) error {
		records, err := dnsRecords.parts(w, store.KindDNSZone, zone.ID)
		if err != nil {
			return err
		}
		for _, record := range records {
			if err := dnsRecords.remove(w, record); err != nil {
				return err
			}
		}
		return nil
	})
}

// zoneBody turns a request into what is kept.
func (w *write) zoneBody(req api.DnsZoneRequest) (zoneBody, error) {
	groups, err := w.groupIDs("distribution_groups", req.DistributionGroups)
	return zoneBody{Domain: req.Domain, Enabled: *req.Enabled, Search: *req.EnableSearchDomain, Distribution: groups}, err
}

// noZoneOf refuses a domain for the peers that is the domain of a zone.
func (w *write) noZoneOf(domain, field string) error {
	zone, err := store.FindObjectByKey(w.ctx, w.tx, w.account.ID, store.KindDNSZone, domain)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return nil
	case err != nil:
		return err
	}
	return problem.Invalid(problem.Field(field, "%s is the domain of the DNS zone %q; remove the zone first", domain, zone.Name))
}
