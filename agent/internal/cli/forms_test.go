package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/netcheck"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// TestForms holds the JSON documents to what they were: scripts read them.
func TestForms(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rule := &api.AccessRule{PolicyId: "po1", PolicyName: "web to db", RuleId: "r1", RuleName: "postgres"}
	for name, document := range map[string]any{
		"status": local.Status{
			Schema: local.StatusSchema, Version: "1.2.3", State: local.StateReady, Name: "web-1", FQDN: "web-1.wattle.internal",
			PeerID: "p1", AccountID: "a1", Addresses: []string{"100.64.0.1"}, PublicKey: "b64",
			Management: local.Management{URL: "https://mesh.example", Connected: true, CaughtUp: true, Since: &at, Server: "1.2.3"},
			Map:        local.Map{Epoch: "e", Serial: 7, Digest: "d"},
			Peers:      []local.Peer{{ID: "p2", Name: "db-1", Addresses: []string{"100.64.0.2"}, Path: "direct", Remote: "192.0.2.9:51820", RTTMillis: 0.5, LastHandshake: &at}},
			Routes:     []local.Route{}, Forwards: []local.Forward{}, Refused: []local.Refused{{Kind: "rule", Name: "r7", Reason: "the rule r7 names the unknown set s9"}}, Warnings: []string{}, Firewall: local.Firewall{Opened: []string{"ip filter INPUT"}},
		},
		"settings": local.Settings{
			Schema: local.SettingsSchema, File: "/etc/wattle/agent.json", Warnings: []string{},
			Settings: []local.Setting{{Name: "mtu", Value: 1400, Text: "1400", Origin: "file", Usage: "largest packet", Choices: []string{}}},
		},
		"set":     local.SetAnswer{Schema: local.SetSchema, Hidden: []local.Hidden{{Name: "mtu", Origin: "flag"}}},
		"version": version{"wattle.version/v1", "1.2.3", "go1.26", "linux", "amd64"},
		"up":      connected{"wattle.up/v1", "web-1", "web-1.wattle.internal", "p1", []string{"100.64.0.1"}, 2, []string{}},
		"whoami":  whoami{"wattle.whoami/v1", "web-1", "web-1.wattle.internal", "p1", "a1", []string{"100.64.0.1"}, "b64", "https://mesh.example"},
		"ip":      addressList{"wattle.ip/v1", "web-1", []string{"100.64.0.1", "fd00::1"}},
		"whois": local.WhoisAnswer{
			Schema: local.WhoisSchema, Kind: local.WhoRoute, Name: "office", Prefix: "10.0.0.0/8", Routers: []string{"gw-1"}, Addresses: []string{},
		},
		"routes": routeList{"wattle.routes/v1", []local.Route{{Name: "office", Role: "use", Prefix: "10.0.0.0/8", Domains: []string{}, Routers: []string{"gw-1"}}}},
		"access": local.AccessAnswer{Schema: local.AccessSchema, Allowed: true, Source: "web-1", Destination: "db-1", Protocol: "tcp", Port: 5432, Rule: "r1", Detail: "the rule r1 accepts it"},
		"access_explanation": explanation{"wattle.access-explanation/v1", api.AccessExplanation{
			Allowed: true, Reason: "allowed", Detail: "the rule accepts it", Rule: rule,
			NearMisses: []api.AccessNearMiss{}, Routers: []api.AccessRouter{}, WhatWouldHelp: []string{},
		}},
		"netcheck": netcheck.Report{
			Schema: netcheck.Schema, IPv4: netcheck.Family{Address: "192.168.1.5", UDP: true, Mapped: "203.0.113.9:51820", MTU: 1500},
			NAT:         netcheck.NAT{Mapping: netcheck.EndpointIndependent, Filtering: netcheck.Unknown, PreservesPort: true},
			PortMapping: netcheck.PortMapping{Error: "no gateway answers"}, Servers: []netcheck.Answer{{Host: "relay.example:3478", Relay: true, UDP: true, RTTMillis: 7.5}},
			Management: netcheck.Management{URL: "https://mesh.example", Reached: true, RTTMillis: 12, ClockKnown: true}, CaptivePortal: netcheck.PortalNo, Warnings: []string{},
		},
		"bundle":     packed{"wattle.bundle/v1", "wattle-debug.tar.gz", "default", []packedPart{{"log.txt", 7, "the newest lines"}}},
		"dns_status": dnsStatus{"wattle.dns-status/v1", local.DNS{Domain: "wattle.internal", Kind: "file", Set: true}},
		"trace":      local.TraceAnswer{Schema: local.TraceSchema, Steps: []local.TraceStep{{Step: "rules", Detail: "no rule accepts it, so it is dropped"}}},
		"dns_query":  local.QueryAnswer{Schema: local.QuerySchema, Name: "db-1.wattle.internal.", Type: "A", Code: "NOERROR", Authoritative: true, Records: []string{"db-1.wattle.internal. 60 IN A 100.64.0.2"}},
		"ping":       pingSummary{Schema: "wattle.ping/v1", Peer: "db-1", Sent: 3, Received: 3, MinMs: 1, AvgMs: 2, MaxMs: 3, Path: "direct"},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			if err := (&output{json: true}).print(&text, document, nil); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", text.String())
			var schema strings.Builder
			var o output
			if err := (templateFlag{&o}).Set("{{.schema}}"); err != nil {
				t.Fatal(err)
			}
			if err := o.print(&schema, document, nil); err != nil || !strings.HasPrefix(schema.String(), "wattle.") {
				t.Errorf("schema %q, %v", schema.String(), err)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	status := local.Status{
		Version: "1.2.3", State: local.StateReady, Map: local.Map{Serial: 7}, Warnings: []string{"one"},
		Management: local.Management{Connected: true}, Relay: local.Relay{Server: "r:1", Transport: "udp"}, Tunnel: local.Tunnel{Dropped: map[string]uint64{"noise": 7, "refused_train": 1}},
		Routes: []local.Route{{Role: "use"}, {Role: "use"}, {Role: "serve"}}, Firewall: local.Firewall{Rules: 3, Dropped: 9, Matched: []local.Counted{{Rule: "r_3", Packets: 9, Bytes: 756}}, Monitored: []local.Counted{{Rule: "r_1", Packets: 3, Bytes: 252}, {Rule: "r_2"}}},
		Peers: []local.Peer{
			{Name: "db-1", Path: "direct", RTTMillis: 0.7, LastHandshake: before(5 * time.Second), ReceivedBytes: 10, SentBytes: 20, PostQuantum: local.PostQuantumActive},
			{Name: `odd "name"`, Path: "relayed", Reason: "udp_blocked", RTTMillis: 90, LastHandshake: before(time.Hour), ReceivedBytes: 1, SentBytes: 2},
			{Name: "idle", Path: "idle", PostQuantum: "unavailable"},
		},
	}
	for name, perPeer := range map[string]bool{"metrics.txt": false, "metrics_per_peer.txt": true} {
		var text strings.Builder
		if err := writeMetrics(&text, status, perPeer, now); err != nil {
			t.Fatal(err)
		}
		golden(t, name, strings.ReplaceAll(strings.ReplaceAll(text.String(), runtime.GOOS, "linux"), runtime.GOARCH, "amd64"))
	}
	// A larger network has no more series.
	few, many := &strings.Builder{}, &strings.Builder{}
	status.Peers = status.Peers[:1]
	if err := writeMetrics(few, status, false, now); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		status.Peers = append(status.Peers, local.Peer{Name: "x", Path: "idle"})
	}
	if err := writeMetrics(many, status, false, now); err != nil {
		t.Fatal(err)
	}
	if a, b := strings.Count(few.String(), "\n"), strings.Count(many.String(), "\n"); a != b {
		t.Errorf("%d lines for one peer, %d for a thousand", a, b)
	}
	// Nor has one with more rules than a hundred, and none of them is left out.
	status.Firewall.Matched = nil
	for i := range 250 {
		status.Firewall.Matched = append(status.Firewall.Matched, local.Counted{Rule: fmt.Sprintf("r_%03d", i), Packets: 2, Bytes: 84})
	}
	var rules strings.Builder
	if err := writeMetrics(&rules, status, false, now); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(rules.String(), "wattle_agent_matched_packets_total{"); got != rulesMeasured+1 || !strings.Contains(rules.String(), `wattle_agent_matched_packets_total{rule="others"} 300`) {
		t.Errorf("%d series for 250 rules:\n%s", got, rules.String())
	}
}

func TestTextfile(t *testing.T) {
	socket := daemon(t)
	path := filepath.Join(t.TempDir(), "wattle.prom")
	for range 2 { // the second replaces the first
		if code, stdout, stderr := run(t, "metrics", "--textfile", path, "--socket", socket); code != 0 || stdout != "" {
			t.Fatalf("exit %d, %q, %s", code, stdout, stderr)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(raw), `wattle_agent_state{state="not_enrolled"} 1`) {
		t.Errorf("%v: %s", err, raw)
	}
	about, err := os.Stat(path)
	if err != nil || about.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", about.Mode(), err)
	}
	if code, _, _ := run(t, "metrics", "--textfile", filepath.Join(path, "x"), "--socket", socket); code != program.ExitFailed {
		t.Errorf("a file below a file: exit %d", code)
	}
}

func TestScreenOfNetcheck(t *testing.T) {
	var text strings.Builder
	for _, report := range []netcheck.Report{
		{CaptivePortal: netcheck.Unknown, NAT: netcheck.NAT{Mapping: netcheck.Unknown}, Warnings: []string{"no STUN server is known"}},
		{
			IPv4:        netcheck.Family{Address: "192.168.1.5", UDP: true, Mapped: "203.0.113.9:51820", MTU: 1500},
			IPv6:        netcheck.Family{Address: "2001:db8::5"},
			NAT:         netcheck.NAT{Mapping: netcheck.EndpointIndependent, Filtering: netcheck.AddressDependent, PreservesPort: true, Hairpin: true},
			PortMapping: netcheck.PortMapping{Protocol: "pcp", Gateway: "192.168.1.1", External: "203.0.113.9:4000"},
			Management:  netcheck.Management{URL: "https://mesh.example", Reached: true, RTTMillis: 12, ClockKnown: true, ClockOffsetSeconds: -3},
			Servers: []netcheck.Answer{
				{Host: "far.example:3478", Relay: true, UDP: true, RTTMillis: 80},
				{Host: "dead.example:3478", Error: "no answer over UDP"},
				{Host: "near.example:3478", Relay: true, UDP: true, RTTMillis: 7.5, TCP: true, TCPMillis: 9},
			},
			CaptivePortal: netcheck.PortalNo,
		},
	} {
		if err := printNetcheck(&text, report, false); err != nil {
			t.Fatal(err)
		}
		text.WriteString("--\n")
	}
	golden(t, "netcheck.txt", text.String())
}

func TestScreensOfLooking(t *testing.T) {
	var text strings.Builder
	for _, err := range []error{
		printTrace(&text, local.TraceAnswer{Steps: []local.TraceStep{{Step: "source", Passes: true, Detail: "this machine"}, {Step: "rules", Detail: "no rule accepts it"}}}, false),
		printWhois(&text, local.WhoisAnswer{Kind: local.WhoPeer, ID: "p2", Name: "db-1", FQDN: "db-1.wattle.internal", Addresses: []string{"100.64.0.2"}, PublicKey: "b64"}),
		printDNS(&text, local.DNS{Kind: "off"}),
		printDNS(&text, local.DNS{
			Domain: "wattle.internal", Addresses: []string{"100.64.0.1"}, Kind: "systemd-resolved", Set: true, Domains: []string{"wattle.internal"},
			Search: []string{"wattle.internal"}, Groups: []local.NameserverGroup{{Servers: []string{"10.0.0.53:53"}, Domains: []string{"corp.example"}}},
			FormerServers: []string{"192.168.1.1"}, Error: "port 53 is in use",
		}),
		printRoutes(&text, nil),
		printRoutes(&text, []local.Route{{Name: "office", Role: "use", Prefix: "10.0.0.0/8", Routers: []string{"gw-1", "gw-2"}, Router: "gw-1"}, {Name: "lab", Role: "use", Prefix: "10.9.0.0/16", Note: "nobody leads there"}, {Name: "wiki", Role: "serve", Domains: []string{"*.corp.example"}, Masquerade: true}}),
		printExplanation(&text, api.AccessExplanation{
			Detail:        "no rule accepts tcp/22 from web-1 to db-1",
			NearMisses:    []api.AccessNearMiss{{Rule: api.AccessRule{PolicyName: "web to db", RuleName: "postgres"}, Missing: "port"}},
			WhatWouldHelp: []string{"add the port 22 to the rule postgres"},
			Routers:       []api.AccessRouter{{Peer: api.AccessEnd{Name: "gw-1"}, Metric: 9999}},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "look.txt", text.String())
}
