package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/wattlenet/wattle/generated/api"
)

// TestValidate: every fault at once, each with its path.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name, body string
		target     interface {
			Validate() []api.FieldError
			ApplyDefaults()
		}
		want []string
	}{
		{"minimal group", `{"name":"web"}`, new(api.GroupRequest), nil},
		{"empty name", `{"name":""}`, new(api.GroupRequest), []string{"name: must not be empty"}},
		{"member twice", `{"name":"a","peers":["p1","p1"]}`, new(api.GroupRequest), []string{"peers[1]: occurs twice: p1"}},
		{"rule without ends", `{"name":"a","rules":[{"name":"r"}]}`, new(api.PolicyRequest), []string{
			"rules[0].sources: one of sources, sourceResource must be given",
			"rules[0].destinations: one of destinations, destinationResource must be given",
		}},
		{"rule with everything wrong", `{"name":"a","rules":[{"name":"r","action":"maybe","protocol":"tcp","sources":["g"],"destinations":["g"],"ports":["080"],"port_ranges":[{"start":1,"end":70000}]},{"name":"r","sources":["g"],"sourceResource":{"id":"p","type":"peer"},"destinations":["g"]}]}`, new(api.PolicyRequest), []string{
			"rules[1].name: occurs twice: r",
			"rules[0].action: must be one of accept, drop, not \"maybe\"",
			"rules[0].port_ranges[0].end: must be at most 65535, not 70000",
			"rules[0].ports[0]: must be a port from 1 to 65535 without a leading zero",
			"rules[0].ports: only one of ports, authorized_groups, port_ranges may be given",
			"rules[1].sources: only one of sources, sourceResource may be given",
		}},
		{"empty lists mean unused", `{"name":"a","rules":[{"name":"r","sources":["g"],"destinations":["g"],"ports":[],"port_ranges":[]}]}`, new(api.PolicyRequest), nil},
		{"no rules", `{"name":"a","rules":null}`, new(api.PolicyRequest), []string{"rules: must be given", "rules: must have at least 1 elements, not 0"}},
		{"settings", `{"dns_domain":"Example.Org.","network_range":"10.0.0.1/8"}`, new(api.AccountSettingsRequest), []string{
			"dns_domain: must be written as example.org", "network_range: must be written as 10.0.0.0/8",
		}},
		{"peer address", `{"ip":"100.64.0.01"}`, new(api.PeerRequest), []string{`ip: must be an IPv4 address, not "100.64.0.01"`}},
		{"negative life", `{"name":"k","expires_in":-1}`, new(api.SetupKeyRequest), []string{"expires_in: must be at least 0, not -1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := json.Unmarshal([]byte(c.body), c.target); err != nil {
				t.Fatal(err)
			}
			c.target.ApplyDefaults()
			var got []string
			for _, f := range c.target.Validate() {
				got = append(got, f.Field+": "+f.Detail)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDefaults: absent and null become the default, a given value stays, and
// an optIn field stays absent.
func TestDefaults(t *testing.T) {
	var r api.PolicyRequest
	if err := json.Unmarshal([]byte(`{"name":"a","enabled":null,"rules":[{"name":"r","bidirectional":false}]}`), &r); err != nil {
		t.Fatal(err)
	}
	r.ApplyDefaults()
	rule := r.Rules[0]
	if !*r.Enabled || *r.Description != "" || *rule.Bidirectional || !*rule.Enabled || *rule.Action != "accept" || *rule.Protocol != "all" {
		t.Errorf("policy %+v", r)
	}
	var g api.GroupRequest
	if err := json.Unmarshal([]byte(`{"name":"a"}`), &g); err != nil {
		t.Fatal(err)
	}
	g.ApplyDefaults()
	if g.Peers.IsSpecified() {
		t.Error("an absent optIn field became a value")
	}
	if err := json.Unmarshal([]byte(`{"name":"a","peers":[]}`), &g); err != nil {
		t.Fatal(err)
	}
	g.ApplyDefaults()
	if v, err := g.Peers.Get(); err != nil || v == nil || len(v) != 0 {
		t.Errorf("an empty optIn list became %v, %v", v, err)
	}
}

// TestCheckBody: what decoding cannot tell any more.
func TestCheckBody(t *testing.T) {
	body := `{"rules":[{"name":null,"sources":["g"],"destinations":["g"],"ports":null,"speed":1}],"colour":"red"}`
	for _, c := range []struct {
		strict bool
		want   []string
	}{
		{false, []string{"name must be given", "rules[0].name must not be null"}},
		{true, []string{"colour", "name must be given", "rules[0].name must not be null", "rules[0].speed"}},
	} {
		var got []string
		for _, f := range api.CheckBody([]byte(body), new(api.PolicyRequest), c.strict) {
			text := f.Field
			if f.Detail[0] == 'm' {
				text += " " + f.Detail
			}
			got = append(got, text)
		}
		less := func(a, b string) bool { return a < b }
		if diff := cmp.Diff(c.want, got, cmpopts.SortSlices(less)); diff != "" {
			t.Errorf("strict %v: %s", c.strict, diff)
		}
	}
}

// FuzzCheckBody: any bytes at all may be looked at.
func FuzzCheckBody(f *testing.F) {
	f.Add([]byte(`{"name":"a","rules":[{"name":"r","sources":null,"port_ranges":[{"start":1}]}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		api.CheckBody(raw, new(api.PolicyRequest), true)
		var r api.PolicyRequest
		if json.Unmarshal(raw, &r) == nil {
			r.ApplyDefaults()
			r.Validate()
		}
	})
}
