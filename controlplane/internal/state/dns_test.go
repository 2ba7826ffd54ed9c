package state

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func (f *fixture) zone(domain string) api.DnsZone {
	f.t.Helper()
	return must(f.CreateDNSZone(f.t.Context(), f.owner, api.DnsZoneRequest{Name: domain, Domain: domain, DistributionGroups: []string{"All"}}))(f.t)
}

func (f *fixture) record(zone, name, kind, content string) api.DnsRecord {
	f.t.Helper()
	req := api.DnsRecordRequest{Name: name, Type: api.DnsRecordRequestType(kind), Content: content}
	return must(f.CreateDNSRecord(f.t.Context(), f.owner, zone, req))(f.t)
}

func TestRecordsFitTheirZone(t *testing.T) {
	f := fresh(t)
	zone, other := f.zone("corp.example"), f.zone("other.example")
	f.record(zone.Id, "a.corp.example", "A", "192.0.2.1")
	f.record(zone.Id, "c.corp.example", "CNAME", "a.corp.example")
	for name, c := range map[string]struct {
		name, kind, content string
		problem             problem.Kind
		field, detail       string
	}{
		"outside":             {"a.corp.example.org", "A", "192.0.2.1", problem.KindInvalid, "name", "end with .corp.example"},
		"end of a label":      {"acorp.example", "A", "192.0.2.1", problem.KindInvalid, "name", "end with .corp.example"},
		"parent":              {"example", "A", "192.0.2.1", problem.KindInvalid, "name", "end with"},
		"upper case":          {"A.corp.example", "A", "192.0.2.9", problem.KindInvalid, "name", "must be written as a.corp.example"},
		"dot at the end":      {"d.corp.example.", "A", "192.0.2.9", problem.KindInvalid, "name", "must be written as d.corp.example"},
		"star inside":         {"a.*.corp.example", "A", "192.0.2.9", problem.KindInvalid, "name", "must be a domain name"},
		"star as a part":      {"a*.corp.example", "A", "192.0.2.9", problem.KindInvalid, "name", "must be a domain name"},
		"IPv6 in A":           {"d.corp.example", "A", "fd00::1", problem.KindInvalid, "content", "IPv4"},
		"IPv4 in AAAA":        {"d.corp.example", "AAAA", "192.0.2.9", problem.KindInvalid, "content", "IPv6"},
		"mapped IPv4 in AAAA": {"d.corp.example", "AAAA", "::ffff:192.0.2.9", problem.KindInvalid, "content", "A record with 192.0.2.9"},
		"long IPv6":           {"d.corp.example", "AAAA", "fd00:0::1", problem.KindInvalid, "content", "must be written as fd00::1"},
		"zone of IPv6":        {"d.corp.example", "AAAA", "fe80::1%eth0", problem.KindInvalid, "content", "IPv6"},
		"address in CNAME":    {"d.corp.example", "CNAME", "192.0.2.9", problem.KindInvalid, "content", "domain name"},
		"star in CNAME":       {"d.corp.example", "CNAME", "*.corp.example", problem.KindInvalid, "content", "domain name"},
		"CNAME to itself":     {"d.corp.example", "CNAME", "d.corp.example", problem.KindInvalid, "content", "leads back"},
		"text":                {"d.corp.example", "TXT", "hello", problem.KindInvalid, "type", "A, AAAA, CNAME"},
		"identical":           {"a.corp.example", "A", "192.0.2.1", problem.KindConflict, "content", "taken"},
		"CNAME beside A":      {"a.corp.example", "CNAME", "b.corp.example", problem.KindInvalid, "type", "a record of type A too"},
		"A beside CNAME":      {"c.corp.example", "A", "192.0.2.1", problem.KindInvalid, "type", "a record of type CNAME too"},
		"two CNAMEs":          {"c.corp.example", "CNAME", "b.corp.example", problem.KindInvalid, "type", "stands alone"},
		"same CNAME again":    {"c.corp.example", "CNAME", "a.corp.example", problem.KindConflict, "content", "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			req := api.DnsRecordRequest{Name: c.name, Type: api.DnsRecordRequestType(c.kind), Content: c.content}
			_, err := f.CreateDNSRecord(t.Context(), f.owner, zone.Id, req)
			refused(t, err, c.problem, c.field, c.detail)
		})
	}
	for _, fits := range [][3]string{
		{"corp.example", "A", "192.0.2.1"},
		{"*.corp.example", "AAAA", "fd00::1"},
		{"*.dev.corp.example", "CNAME", "elsewhere.test"},
		{"a.corp.example", "AAAA", "fd00::1"},
		{"a.corp.example", "A", "192.0.2.2"},
		{"_x._tcp.corp.example", "A", "192.0.2.3"},
	} {
		if r := f.record(zone.Id, fits[0], fits[1], fits[2]); r.Ttl != 300 || r.ZoneId != zone.Id || r.Version != 1 {
			t.Errorf("%v: %+v", fits, r)
		}
	}
	_, err := f.CreateDNSRecord(t.Context(), f.owner, "gone", api.DnsRecordRequest{Name: "a.corp.example", Type: "A", Content: "192.0.2.1"})
	refused(t, err, problem.KindNotFound, "", "not found")
	if records := must2(f.ListDNSRecords(t.Context(), f.owner, other.Id, api.ListDnsRecordsParams{}))(t); len(records) != 0 {
		t.Errorf("records of another zone: %v", records)
	}
}

func TestRecordsAreChangedInTheirZone(t *testing.T) {
	f := fresh(t)
	ctx, zone, other := t.Context(), f.zone("corp.example"), f.zone("other.example")
	first, second := f.record(zone.Id, "a.corp.example", "A", "192.0.2.1"), f.record(zone.Id, "a.corp.example", "A", "192.0.2.2")
	want := api.DnsRecordRequest{Name: "a.corp.example", Type: "A", Content: "192.0.2.2", Ttl: new(60)}
	_, err := f.UpdateDNSRecord(ctx, f.owner, zone.Id, first.Id, want, "")
	refused(t, err, problem.KindConflict, "content", "taken")
	want.Type, want.Content = "CNAME", "b.corp.example"
	_, err = f.UpdateDNSRecord(ctx, f.owner, zone.Id, first.Id, want, "")
	refused(t, err, problem.KindInvalid, "type", "stands alone")
	_, err = f.UpdateDNSRecord(ctx, f.owner, other.Id, first.Id, want, "")
	refused(t, err, problem.KindNotFound, "", "DNS record not found")
	refused(t, f.DeleteDNSRecord(ctx, f.owner, other.Id, first.Id, ""), problem.KindNotFound, "", "DNS record not found")
	if err := f.DeleteDNSRecord(ctx, f.owner, zone.Id, second.Id, `"1"`); err != nil {
		t.Fatal(err)
	}
	_, err = f.UpdateDNSRecord(ctx, f.owner, zone.Id, first.Id, want, `"7"`)
	refused(t, err, problem.KindPrecondition, "", "changed since it was read")
	// Alone at its name, an A record may become a CNAME.
	changed := must(f.UpdateDNSRecord(ctx, f.owner, zone.Id, first.Id, want, `"1"`))(t)
	if changed.Type != "CNAME" || changed.Ttl != 60 || changed.Version != 2 {
		t.Errorf("changed: %+v", changed)
	}
	if same := must(f.UpdateDNSRecord(ctx, f.owner, zone.Id, first.Id, want, ""))(t); same.Version != 2 {
		t.Errorf("the same again counts as version %d", same.Version)
	}
}

func TestZonesAreWhole(t *testing.T) {
	f := fresh(t)
	ctx := t.Context()
	web := f.group("web")
	zone := f.zone("corp.example")
	if !zone.Enabled || zone.EnableSearchDomain || len(zone.Records) != 0 || zone.Records == nil {
		t.Errorf("defaults: %+v", zone)
	}
	peers := must(f.GetAccountSettings(ctx, f.owner))(t).DnsDomain
	want := api.DnsZoneRequest{Name: "z", Domain: "corp.example", DistributionGroups: []string{"web"}}
	_, err := f.CreateDNSZone(ctx, f.owner, want)
	refused(t, err, problem.KindConflict, "domain", "taken")
	for domain, detail := range map[string]string{
		peers: "the domain of the peers", "Corp.Example": "must be written as corp.example", "corp.test.": "must be written as corp.test",
		"*.corp.test": "must be a domain name", "10.0.0.1": "must be a domain name", "a..b": "must be a domain name", "": "must not be empty",
	} {
		_, err := f.CreateDNSZone(ctx, f.owner, api.DnsZoneRequest{Name: "z", Domain: domain, DistributionGroups: []string{"web"}})
		refused(t, err, problem.KindInvalid, "domain", detail)
	}
	_, err = f.CreateDNSZone(ctx, f.owner, api.DnsZoneRequest{Name: "z", Domain: "z.example", DistributionGroups: []string{web.Id, "nobody"}})
	refused(t, err, problem.KindInvalid, "distribution_groups[1]", "unknown group id")
	_, err = f.UpdateAccountSettings(ctx, f.owner, api.AccountSettingsRequest{DnsDomain: new("corp.example")}, "")
	refused(t, err, problem.KindInvalid, "dns_domain", `the domain of the DNS zone "corp.example"`)

	f.record(zone.Id, "a.corp.example", "A", "192.0.2.1")
	f.record(zone.Id, "b.corp.example", "A", "192.0.2.2")
	want.Domain = "other.example"
	_, err = f.UpdateDNSZone(ctx, f.owner, zone.Id, want, "")
	refused(t, err, problem.KindInvalid, "domain", "stays corp.example")
	want.Domain = "corp.example"
	changed := must(f.UpdateDNSZone(ctx, f.owner, zone.Id, want, `"1"`))(t)
	if diff := cmp.Diff([]string{web.Id}, changed.DistributionGroups); diff != "" || len(changed.Records) != 2 || changed.Version != 2 {
		t.Errorf("changed: %+v %s", changed, diff)
	}
	refused(t, f.DeleteGroup(ctx, f.owner, web.Id, ""), problem.KindInUse, "", `dns zone "z"`)
	if err := f.DeleteDNSZone(ctx, f.owner, zone.Id, ""); err != nil {
		t.Fatal(err)
	}
	if again := f.zone("corp.example"); len(again.Records) != 0 {
		t.Errorf("records outlive their zone: %v", again.Records)
	}
	if err := f.DeleteGroup(ctx, f.owner, web.Id, ""); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(f.reloaded(), look(t, f.State, f.owner.AccountID)); diff != "" {
		t.Errorf("reload (-) and memory (+) differ:\n%s", diff)
	}
}

func TestNameserversAnswerForAllOrForSome(t *testing.T) {
	f := fresh(t)
	ctx := t.Context()
	valid := func() api.NameserverGroupRequest {
		return api.NameserverGroupRequest{Name: "n", Nameservers: []api.NameserverRequest{{Ip: "192.0.2.53"}}, Groups: []string{"All"}, Domains: &[]string{"corp.example"}}
	}
	four := []api.NameserverRequest{{Ip: "192.0.2.1"}, {Ip: "192.0.2.2"}, {Ip: "192.0.2.3"}, {Ip: "192.0.2.4"}}
	for name, c := range map[string]struct {
		change        func(*api.NameserverGroupRequest)
		field, detail string
	}{
		"neither": {func(r *api.NameserverGroupRequest) { r.Domains = nil }, "domains", "must name a domain"},
		"both":    {func(r *api.NameserverGroupRequest) { r.Primary = new(true) }, "domains", "must be empty"},
		"search of all": {func(r *api.NameserverGroupRequest) {
			r.Domains, r.Primary, r.SearchDomainsEnabled = nil, new(true), new(true)
		}, "search_domains_enabled", "needs domains"},
		"no server":        {func(r *api.NameserverGroupRequest) { r.Nameservers = nil }, "nameservers", "must be given"},
		"four servers":     {func(r *api.NameserverGroupRequest) { r.Nameservers = four }, "nameservers", "at most 3"},
		"port 0":           {func(r *api.NameserverGroupRequest) { r.Nameservers[0].Port = new(0) }, "nameservers[0].port", "at least 1"},
		"everywhere":       {func(r *api.NameserverGroupRequest) { r.Nameservers[0].Ip = "::" }, "nameservers[0].ip", "no server"},
		"long spelling":    {func(r *api.NameserverGroupRequest) { r.Nameservers[0].Ip = "FD00::53" }, "nameservers[0].ip", "fd00::53"},
		"unknown kind":     {func(r *api.NameserverGroupRequest) { r.Nameservers[0].NsType = new(api.NameserverRequestNsType("doh")) }, "nameservers[0].ns_type", "udp"},
		"TLS in the clear": {func(r *api.NameserverGroupRequest) { r.Nameservers[0].NsType = new(api.NameserverRequestNsTypeTls) }, "nameservers[0].port", "853"},
		"no group":         {func(r *api.NameserverGroupRequest) { r.Groups = []string{} }, "groups", "at least 1"},
		"unknown group":    {func(r *api.NameserverGroupRequest) { r.Groups = []string{"x"} }, "groups[0]", "unknown group id"},
		"long name":        {func(r *api.NameserverGroupRequest) { r.Name = fmt.Sprintf("%041d", 0) }, "name", "at most 40"},
		"wildcard":         {func(r *api.NameserverGroupRequest) { r.Domains = &[]string{"*.corp.example"} }, "domains[0]", "must be a domain name"},
		"domain spelling":  {func(r *api.NameserverGroupRequest) { r.Domains = &[]string{"Corp.example."} }, "domains[0]", "must be written as corp.example"},
		"domain twice":     {func(r *api.NameserverGroupRequest) { r.Domains = &[]string{"a.example", "a.example"} }, "domains[1]", "occurs twice"},
		"same group twice": {func(r *api.NameserverGroupRequest) { r.Groups = []string{f.allGroup(), "All"} }, "groups[1]", "same group"},
	} {
		t.Run(name, func(t *testing.T) {
			req := valid()
			c.change(&req)
			_, err := f.CreateNameserverGroup(t.Context(), f.owner, req)
			refused(t, err, problem.KindInvalid, c.field, c.detail)
		})
	}
	req := valid()
	req.Nameservers = []api.NameserverRequest{
		{Ip: "fd00::53", Port: new(853), NsType: new(api.NameserverRequestNsTypeTls), TlsName: new("dns.example")}, {Ip: "192.0.2.53"},
	}
	made := must(f.CreateNameserverGroup(ctx, f.owner, req))(t)
	servers := []api.Nameserver{{Ip: "fd00::53", NsType: "tls", Port: 853, TlsName: "dns.example"}, {Ip: "192.0.2.53", NsType: "udp", Port: 53}}
	if diff := cmp.Diff(servers, made.Nameservers); diff != "" || !made.Enabled || made.Primary {
		t.Errorf("%+v %s", made, diff)
	}
	_, err := f.CreateNameserverGroup(ctx, f.owner, valid())
	refused(t, err, problem.KindConflict, "name", "taken")
	req.Domains, req.Primary = nil, new(true)
	if all := must(f.UpdateNameserverGroup(ctx, f.owner, made.Id, req, `"1"`))(t); !all.Primary || all.Domains == nil || len(all.Domains) != 0 {
		t.Errorf("made primary: %+v", all)
	}
	if err := f.DeleteNameserverGroup(ctx, f.owner, made.Id, `"2"`); err != nil {
		t.Error(err)
	}
}

func (f *fixture) allGroup() string {
	groups := must2(f.ListGroups(f.t.Context(), f.owner, api.ListGroupsParams{Name: new("All")}))(f.t)
	return groups[0].Id
}

func TestDNSSettingsAreOneObject(t *testing.T) {
	f := fresh(t)
	ctx := t.Context()
	web := f.group("web")
	if s := must(f.GetDNSSettings(ctx, f.owner))(t); s.DisabledManagementGroups == nil || len(s.DisabledManagementGroups) != 0 || s.Version != 0 {
		t.Errorf("of a new account: %+v", s)
	}
	for range 2 {
		s := must(f.ReplaceDNSSettings(ctx, f.owner, api.DnsSettingsRequest{DisabledManagementGroups: []string{"web"}}, ""))(t)
		if diff := cmp.Diff([]string{web.Id}, s.DisabledManagementGroups); diff != "" || s.Version != 1 {
			t.Errorf("%+v %s", s, diff)
		}
	}
	if s := must(f.MergeDNSSettings(ctx, f.owner, api.DnsSettingsPatch{}, `"1"`))(t); len(s.DisabledManagementGroups) != 1 || s.Version != 1 {
		t.Errorf("a merge of nothing: %+v", s)
	}
	_, err := f.ReplaceDNSSettings(ctx, f.owner, api.DnsSettingsRequest{}, "")
	refused(t, err, problem.KindInvalid, "disabled_management_groups", "must be given")
	_, err = f.MergeDNSSettings(ctx, f.owner, api.DnsSettingsPatch{DisabledManagementGroups: &[]string{"x"}}, "")
	refused(t, err, problem.KindInvalid, "disabled_management_groups[0]", "unknown group id")
	_, err = f.MergeDNSSettings(ctx, f.owner, api.DnsSettingsPatch{DisabledManagementGroups: &[]string{}}, `"0"`)
	refused(t, err, problem.KindPrecondition, "", "changed since it was read")
	refused(t, f.DeleteGroup(ctx, f.owner, web.Id, ""), problem.KindInUse, "", "group has been linked to")
	if s := must(f.MergeDNSSettings(ctx, f.owner, api.DnsSettingsPatch{DisabledManagementGroups: &[]string{}}, `"1"`))(t); len(s.DisabledManagementGroups) != 0 || s.Version != 2 {
		t.Errorf("emptied: %+v", s)
	}
	if err := f.DeleteGroup(ctx, f.owner, web.Id, ""); err != nil {
		t.Error(err)
	}
}
