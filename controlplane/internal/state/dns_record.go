package state

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// recordBody is what is kept of a DNS record besides its name, which is that of
// the object.
type recordBody struct {
	Zone    string            `json:"zone_id"`
	Type    api.DnsRecordType `json:"type"`
	Content string            `json:"content"`
	TTL     int               `json:"ttl"`
}

// dnsRecords is the noun of the names in zones.
var dnsRecords = &noun[recordBody, api.DnsRecord]{
	kind: store.KindDNSRecord, title: "DNS record",
	creating: api.PermissionDnsCreate, changing: api.PermissionDnsUpdate, deleting: api.PermissionDnsDelete,
	in:      func(a *account) *ordered[object[recordBody]] { return &a.dns.records },
	indexed: func(a *account, r object[recordBody]) []entry { return []entry{{a.dns.recordsOf, r.Body.Zone, r.Seq}} },
	unique: func(name string, b recordBody) (string, string) {
		return "content", strings.Join([]string{b.Zone, name, string(b.Type), b.Content}, " ")
	},
	refs: func(b recordBody) []store.Ref {
		return []store.Ref{{Field: parentField, ToKind: store.KindDNSZone, ToID: b.Zone}}
	},
	show: func(_ *account, r object[recordBody]) api.DnsRecord {
		return api.DnsRecord{Id: r.ID, ZoneId: r.Body.Zone, Name: r.Name, Type: r.Body.Type, Content: r.Body.Content, Ttl: r.Body.TTL, Version: r.Version}
	},
	compiled: func(_ *account, r object[recordBody]) []netmap.Change {
		return []netmap.Change{netmap.RecordPut{Record: netmap.Record{
			ID: r.ID, Zone: r.Body.Zone, Name: r.Name, Type: string(r.Body.Type), Content: r.Body.Content, TTL: uint32(r.Body.TTL),
		}}}
	},
	gone: func(_ *account, r object[recordBody]) []netmap.Change {
		return []netmap.Change{netmap.RecordRemove{ID: r.ID}}
	},
}

// ListDNSRecords lists the records of a zone.
func (s *State) ListDNSRecords(_ context.Context, p auth.Principal, zone string, params api.ListDnsRecordsParams) ([]api.DnsRecord, string, error) {
	err := s.reading(p, func(a *account) error {
		if _, ok := a.dns.zones.get(zone); !ok {
			return problem.NotFound(dnsZones.title)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	called := withName[recordBody](params.Name)
	return dnsRecords.list(s, p, page{params.Ids, params.Limit, params.Cursor}, func(r object[recordBody]) bool {
		return r.Body.Zone == zone && called(r)
	})
}

// GetDNSRecord reads a record of a zone.
func (s *State) GetDNSRecord(_ context.Context, p auth.Principal, zone, id string) (api.DnsRecord, error) {
	return dnsRecords.get(s, p, zone, id)
}

// CreateDNSRecord creates a record in a zone. An identical record is a conflict.
func (s *State) CreateDNSRecord(ctx context.Context, p auth.Principal, zone string, req api.DnsRecordRequest) (api.DnsRecord, error) {
	req.ApplyDefaults()
	return dnsRecords.create(ctx, s, p, func(w *write) (string, recordBody, error) {
		body, err := w.recordBody(zone, "", req)
		return req.Name, body, err
	})
}

// UpdateDNSRecord replaces a record of a zone.
func (s *State) UpdateDNSRecord(ctx context.Context, p auth.Principal, zone, id string, req api.DnsRecordRequest, ifMatch string) (api.DnsRecord, error) {
	req.ApplyDefaults()
	return dnsRecords.update(ctx, s, p, zone, id, ifMatch, func(w *write, had object[recordBody]) (string, recordBody, error) {
		body, err := w.recordBody(zone, had.ID, req)
		return req.Name, body, err
	})
}

// DeleteDNSRecord removes a record of a zone.
func (s *State) DeleteDNSRecord(ctx context.Context, p auth.Principal, zone, id, ifMatch string) error {
	return dnsRecords.delete(ctx, s, p, zone, id, ifMatch, nil)
}

// recordBody checks the request for the record id, which is empty for a new one,
// and turns it into what is kept.
func (w *write) recordBody(zone, id string, req api.DnsRecordRequest) (recordBody, error) {
	body := recordBody{Zone: zone, Type: api.DnsRecordType(req.Type), Content: req.Content, TTL: *req.Ttl}
	_, in, err := dnsZones.find(w, "", zone, "")
	if err != nil {
		return body, err
	}
	if err := faults(req.Validate(), checkRecord(req, in.Body.Domain)...); err != nil {
		return body, err
	}
	return body, w.besideRecords(id, req.Name, body)
}

// checkRecord finds what the contract's own validation cannot see.
func checkRecord(req api.DnsRecordRequest, domain string) (wrong []problem.FieldError) {
	name := strings.TrimPrefix(req.Name, "*.")
	if name != domain && !strings.HasSuffix(name, "."+domain) {
		wrong = append(wrong, problem.Field("name", "must be %s or end with .%s, the domain of the zone", domain, domain))
	}
	format := map[api.DnsRecordRequestType]string{
		api.DnsRecordRequestTypeA: "ipv4", api.DnsRecordRequestTypeAAAA: "ipv6", api.DnsRecordRequestTypeCNAME: "dns-name",
	}[req.Type]
	if detail := api.WrongSpelling(format, req.Content); detail != "" {
		return append(wrong, problem.Field("content", "%s", detail))
	}
	if addr, err := netip.ParseAddr(req.Content); err == nil && addr.Is4In6() {
		wrong = append(wrong, problem.Field("content", "is an IPv4 address; make it an A record with %s", addr.Unmap()))
	}
	if req.Content == req.Name {
		wrong = append(wrong, problem.Field("content", "leads back to the name of the record"))
	}
	return wrong
}

// besideRecords compares a record with the others of its name: an identical one
// is a conflict, and a CNAME stands alone (RFC 1034, section 3.6.2).
func (w *write) besideRecords(id, name string, body recordBody) error {
	rows, err := store.RecordsNamed(w.ctx, w.tx, w.account.ID, name)
	if err != nil {
		return err
	}
	var clash error
	for _, row := range rows {
		other, err := dnsRecords.read(row)
		if err != nil {
			return err
		}
		if other.ID == id || other.Name != name || other.Body.Zone != body.Zone {
			continue
		}
		if other.Body.Type == body.Type && other.Body.Content == body.Content {
			return problem.Conflict(dnsRecords.title, "content", fmt.Sprintf("%s %s %s", name, body.Type, body.Content))
		}
		if other.Body.Type == api.DnsRecordTypeCNAME || body.Type == api.DnsRecordTypeCNAME {
			clash = problem.Invalid(problem.Field("type", "a CNAME stands alone at its name, and %s has a record of type %s too", name, other.Body.Type))
		}
	}
	return clash
}
