package firewall

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"
	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/namespacetest"
	"github.com/wattlenet/wattle/internal/table"
)

// The firewalls of hosts in these tests are written as the programs that people
// use write them: Docker and ufw by policies, firewalld by a last rule.
const hostRules = `
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
		iifname "eth0" tcp dport 22 accept
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		iifname "docker0" accept
	}
}
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state established,related accept
		counter reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy drop;
	}
}
table inet lenient {
	chain input {
		type filter hook input priority filter + 20; policy accept;
		tcp dport 23 drop
	}
	chain aside {
		drop
	}
}
`

func nft(t *testing.T, input string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "nft", args...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func needsNft(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("SKIPPED: the firewalls of hosts need nft (apt-get install nftables)")
	}
}

func opened(t *testing.T, o Options) *Kernel {
	t.Helper()
	o.Logger, o.Interface = slog.New(slog.DiscardHandler), "wt0"
	k, err := NewKernel(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hostConfig lets one peer in, and carries for it when routed.
func hostConfig(routed bool) Config {
	c := Config{
		Interface: "wt0", Self: 1,
		Peers: table.Of(map[uint32]Addresses{1: {IPv4: netip.MustParseAddr("100.64.0.1")}, 2: {IPv4: netip.MustParseAddr("100.64.0.2")}}),
		Sets:  table.Of(map[string]*roaring.Bitmap{"s": roaring.BitmapOf(2)}),
		Rules: []api.CompiledRule{{Id: "in", Source: "s", Direction: "in", Protocol: "all", Action: "accept"}},
	}
	if routed {
		end := api.CompiledRuleRouteDestination
		c.Routes = map[string]Destination{"r": {Prefix: netip.MustParsePrefix("10.9.0.0/16")}}
		c.Rules = append(c.Rules, api.CompiledRule{Id: "fwd", Source: "s", Destination: "r", Direction: "forward", Protocol: "all", Action: "accept", Route: &end})
	}
	return c
}

func TestTunnelPassesTheFirewallOfTheHost(t *testing.T) {
	needsNft(t)
	namespacetest.Run(t, namespacetest.Network, func(t *testing.T) {
		nft(t, hostRules, "-f", "-")
		before := nft(t, "", "-s", "list", "ruleset")
		k := opened(t, Options{})
		set := func(routed bool, want ...string) {
			t.Helper()
			for range 2 { // the second time changes nothing
				if err := k.Set(t.Context(), hostConfig(routed)); err != nil {
					t.Fatal(err)
				}
			}
			if got := k.Status(); strings.Join(got.Opened, ", ") != strings.Join(want, ", ") || got.Note != "" {
				t.Errorf("opened %q, want %q; %s", got.Opened, want, got.Note)
			}
		}
		set(false, "ip filter INPUT", "inet firewalld filter_INPUT")
		wantRule(t, "ip filter INPUT", `iifname "wt0"`, 1)
		wantRule(t, "inet firewalld filter_INPUT", `iifname "wt0"`, 1)
		wantRule(t, "ip filter FORWARD", "wt0", 0)
		set(true, "ip filter INPUT", "ip filter FORWARD", "inet firewalld filter_INPUT")
		wantRule(t, "ip filter FORWARD", `iifname "wt0"`, 1)
		wantRule(t, "ip filter FORWARD", `oifname "wt0"`, 1)
		wantRule(t, "inet lenient input", "wt0", 0)
		set(false, "ip filter INPUT", "inet firewalld filter_INPUT")
		wantRule(t, "ip filter FORWARD", "wt0", 0)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if after := nft(t, "", "-s", "list", "ruleset"); after != before {
			t.Errorf("the host has\n%s\nand had\n%s", after, before)
		}

		// An agent that was killed: its rules stay, those in the tables of the host go.
		k = opened(t, Options{})
		set(true, "ip filter INPUT", "ip filter FORWARD", "inet firewalld filter_INPUT")
		if err := Undo(true); err != nil {
			t.Fatal(err)
		}
		nft(t, "", "list", "table", "inet", "wattle")
		if err := Undo(false); err != nil { // there is no interface
			t.Fatal(err)
		}
		if after := nft(t, "", "-s", "list", "ruleset"); after != before {
			t.Errorf("after Undo the host has\n%s\nand had\n%s", after, before)
		}

		k = opened(t, Options{KeepHostClosed: true})
		set(true)
		wantRule(t, "ip filter INPUT", "wt0", 0)
	})
}

// wantRule counts the rules of a chain that hold a text.
func wantRule(t *testing.T, chain, text string, want int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(nft(t, "", append([]string{"list", "chain"}, strings.Fields(chain)...)...)) {
		if strings.Contains(line, text) && strings.Contains(line, "accept") {
			n++
		}
	}
	if n != want {
		t.Errorf("%s: %d rules with %s, want %d", chain, n, text, want)
	}
}

func TestWhatOthersRemoveComesBack(t *testing.T) {
	needsNft(t)
	namespacetest.Run(t, namespacetest.Network, func(t *testing.T) {
		nft(t, hostRules, "-f", "-")
		k := opened(t, Options{})
		changed := make(chan struct{}, 100)
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() {
			if err := k.Watch(ctx, func() { changed <- struct{}{} }); err != nil {
				t.Error(err)
			}
		})
		defer watching.Wait()
		defer cancel()
		set := func(routed bool) {
			if err := k.Set(t.Context(), hostConfig(routed)); err != nil {
				t.Error(err)
			}
		}
		set(true)
		all := nft(t, "", "-s", "list", "ruleset")
		for _, harm := range []string{
			"flush ruleset\n" + hostRules,
			"delete table inet wattle",
			"flush chain inet wattle inbound_accepts",
			"flush chain inet wattle input",
			"insert rule inet wattle inbound accept",
			"flush chain ip filter INPUT\nadd rule ip filter INPUT iifname \"eth0\" tcp dport 22 accept",
		} {
			nft(t, harm, "-f", "-")
			limit := time.NewTimer(patience)
			for whole := false; !whole; {
				select {
				case <-changed:
					set(true)
				case <-limit.C:
					t.Fatalf("%v after %q: %s", patience, harm, cmp.Diff(all, nft(t, "", "-s", "list", "ruleset")))
				}
				whole = sameTables(nft(t, "", "-s", "list", "ruleset"), all)
			}
			limit.Stop()
		}
		if note := k.Status().Note; !strings.Contains(note, "it was put back 5 times") {
			t.Errorf("note %q", note)
		}

		// A chain that comes later is let through as well.
		nft(t, "table ip6 late {\n chain in { type filter hook input priority 0; policy drop; }\n}", "-f", "-")
		for !strings.Contains(strings.Join(k.Status().Opened, " "), "ip6 late in") {
			<-changed
			set(true)
		}
	})
}

// sameTables compares rulesets whose tables may stand in another order.
func sameTables(a, b string) bool {
	tables := func(text string) map[string]int {
		list := map[string]int{}
		for table := range strings.SplitSeq("\n"+text, "\ntable ") {
			list[strings.TrimSpace(table)]++
		}
		return list
	}
	had, want := tables(a), tables(b)
	for table, n := range want {
		if had[table] != n {
			return false
		}
	}
	return len(had) == len(want)
}

func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	needsNft(t)
	namespacetest.Run(t, namespacetest.Network, func(t *testing.T) {
		attempt := func(want string) {
			t.Helper()
			k, err := NewKernel(Options{Logger: slog.New(slog.DiscardHandler), Interface: "wt0"})
			switch {
			case want == "" && err == nil:
				if err := k.Close(); err != nil {
					t.Error(err)
				}
			case err == nil || want == "" || !strings.Contains(err.Error(), want):
				t.Errorf("error %v, want %q", err, want)
			}
		}
		nft(t, "table inet wattle {\n chain mine { type filter hook input priority 0; policy accept; }\n}", "-f", "-")
		before := nft(t, "", "list", "ruleset")
		attempt("the table inet wattle is not of an agent, it has a chain mine")
		if after := nft(t, "", "list", "ruleset"); after != before {
			t.Errorf("it was changed: %s", after)
		}

		nft(t, "flush ruleset\nadd table inet wattle", "-f", "-") // half of one
		attempt("")

		// A program that owns the table, as long as its input is open.
		held, hold := io.Pipe()
		owner := exec.CommandContext(t.Context(), "nft", "-i")
		owner.Stdin = held
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(hold, "add table inet wattle { flags owner; }\n"); err != nil {
			t.Fatal(err)
		}
		for !strings.Contains(nft(t, "", "list", "ruleset"), "owner") {
		}
		attempt("the table inet wattle is locked by a running program that owns it")
		if err := hold.Close(); err != nil {
			t.Fatal(err)
		}
		if err := owner.Wait(); err != nil {
			t.Fatal(err)
		}
		attempt("")
	})
}
