package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/agent/internal/local"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestScreens(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	ready := local.Status{
		Schema: local.StatusSchema, Version: "1.2.3", State: local.StateReady,
		Name: "web-1", FQDN: "web-1.wattle.internal", PeerID: "p1", AccountID: "a1", PublicKey: "b64",
		Addresses:  []string{"100.64.0.1", "fd00::1"},
		Management: local.Management{URL: "https://mesh.example:8443", Connected: true, CaughtUp: true, Since: before(5 * time.Minute), Server: "1.2.3"},
		Map:        local.Map{Epoch: "e1", Serial: 7, Digest: "0123456789abcdef0123456789abcdef"},
		Tunnel:     local.Tunnel{Mode: "userspace", Interface: "wt0", ListenPort: 51820},
		Firewall:   local.Firewall{Kind: "nftables", Rules: 2, Monitored: []local.Counted{{Rule: "r_1", Packets: 3, Bytes: 252}}, Matched: []local.Counted{{Rule: "r_2", Packets: 1, Bytes: 84}, {Rule: "r_3", Also: 2, Packets: 9, Bytes: 756}, {Rule: "r_4"}}},
		DNS:        local.DNS{Domain: "wattle.internal", Addresses: []string{"100.64.0.1"}},
		Relay:      local.Relay{Server: "198.51.100.1:3478", Transport: "udp", Mapped: "203.0.113.7:51820"},
		Peers: []local.Peer{
			{Name: "db-1", Addresses: []string{"100.64.0.2"}, Path: "idle"},
			{
				Name: "db-2", Addresses: []string{"100.64.0.3"}, Path: "relayed", Reason: "hard_nat_both", Relay: "198.51.100.1:3478",
				LastHandshake: before(90 * time.Second), ReceivedBytes: 2048, SentBytes: 3 << 20, LastError: "no pair was nominated", RelayError: "relay refused ChannelBind: 486 this machine's quota of channels at this relay is used up: 1",
				Attempt: &local.Attempt{
					TookMillis: 5000,
					Local:      []local.Candidate{{Kind: "host", Address: "192.168.1.10:51820"}, {Kind: "host", Address: "[2001:db8::a]:51820"}, {Kind: "reflexive", Address: "203.0.113.7:4000"}},
					Remote:     []local.Candidate{{Kind: "host", Address: "192.168.2.10:51820"}, {Kind: "mapped", Address: "203.0.113.9:51820"}},
					Checks: []local.Check{
						{Local: "192.168.1.10:51820", Remote: "192.168.2.10:51820", State: "failed"},
						{Local: "192.168.1.10:51820", Remote: "203.0.113.9:51820", State: "in-progress"},
					},
				},
			},
			{
				Name: "web-2", Addresses: []string{"100.64.0.4"}, Path: "direct", Remote: "192.0.2.9:51820",
				RTTMillis: 0.61, LastHandshake: before(12 * time.Second), ReceivedBytes: 512, SentBytes: 5 << 30,
			},
		},
	}
	offline := ready
	offline.State, offline.Peers = local.StateOffline, ready.Peers[2:]
	offline.Management = local.Management{
		URL: "https://mesh.example:8443", Since: before(3 * time.Hour), Error: "the control plane cannot be reached",
	}
	large := ready
	large.Peers = ready.Peers[1:]
	for n := range manyPeers {
		large.Peers = append(slices.Clip(large.Peers), local.Peer{Name: fmt.Sprintf("idle-%d", n), Path: "idle"})
	}
	for name, test := range map[string]struct {
		status local.Status
		detail bool
	}{
		"status_not_enrolled.txt": {local.Status{State: local.StateNotEnrolled, Warnings: []string{"this machine was removed"}}, false},
		"status_down.txt":         {local.Status{State: local.StateDown, Name: "web-1", Management: local.Management{URL: "https://mesh.example:8443"}}, false},
		"status_connecting.txt":   {local.Status{State: local.StateConnecting, Name: "web-1", Management: local.Management{URL: "https://mesh.example:8443", Error: "refused"}}, false},
		"status_ready.txt":        {ready, false},
		"status_detail.txt":       {ready, true},
		"status_offline.txt":      {offline, false},
		"status_large.txt":        {large, false},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := (screen{now: now, detail: test.detail}).print(&out, test.status); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func TestPingLines(t *testing.T) {
	var out strings.Builder
	counted := tally{out: &out, peer: "web-2"}
	for _, reply := range []local.PingReply{
		{Sequence: 1, Peer: "web-2", Address: "100.64.0.4", Path: "relayed", Reason: "checking", Remote: "198.51.100.1:3478", RTTMillis: 30.5},
		{Sequence: 2, Peer: "web-2", Address: "100.64.0.4", Path: "relayed", Reason: "checking", Remote: "198.51.100.1:3478", RTTMillis: 30.25},
		{Sequence: 3, Peer: "web-2", Address: "100.64.0.4", Path: "direct", Remote: "192.0.2.9:51820", RTTMillis: 0.61},
		{Sequence: 4, Peer: "web-2", Address: "100.64.0.4", Path: "direct", Remote: "192.0.2.9:51820", Error: "no answer within 3s"},
	} {
		if err := counted.add(reply); err != nil {
			t.Fatal(err)
		}
	}
	if err := counted.end(true); err != nil {
		t.Error(err)
	}
	golden(t, "ping.txt", out.String())
}
