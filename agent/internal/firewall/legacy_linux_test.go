package firewall

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestLegacyFirewallIsNamed has the real program make the rules, and does what the
// note says.
func TestLegacyFirewallIsNamed(t *testing.T) {
	for _, family := range legacies {
		if _, err := exec.LookPath(family.program); err != nil {
			t.Skipf("SKIPPED: the rules of legacy firewalls need %s (apt-get install iptables)", family.program)
		}
	}
	namespacetest.Run(t, namespacetest.Network, testLegacy)
}

func testLegacy(t *testing.T) {
	run := func(line string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	if err := exec.CommandContext(t.Context(), "iptables-legacy", "-S").Run(); err != nil {
		t.Skipf("SKIPPED: this kernel has no tables of iptables-legacy: %v", err)
	}
	k := opened(t, Options{})
	for _, step := range []struct {
		name    string
		rules   string
		routed  bool
		advised []string
	}{
		{name: "tables that drop nothing", rules: "iptables-legacy -A INPUT -p tcp --dport 23 -j DROP && iptables-legacy -A INPUT -i eth0 -j DROP"},
		{
			name: "a policy", rules: "iptables-legacy -P INPUT DROP && ip6tables-legacy -P INPUT DROP",
			advised: []string{"iptables-legacy -I INPUT -i wt0 -j ACCEPT", "ip6tables-legacy -I INPUT -i wt0 -j ACCEPT"},
		},
		{
			name: "a last rule", rules: "iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT && iptables-legacy -A INPUT -j REJECT",
			advised: []string{"iptables-legacy -I INPUT -i wt0 -j ACCEPT"},
		},
		{name: "nothing is carried", rules: "iptables-legacy -P FORWARD DROP"},
		{
			name: "others are carried", rules: "iptables-legacy -P FORWARD DROP", routed: true,
			advised: []string{"iptables-legacy -I FORWARD -i wt0 -j ACCEPT", "iptables-legacy -I FORWARD -o wt0 -j ACCEPT"},
		},
		{
			name: "another chain lets the interface through", routed: true,
			rules: "iptables-legacy -P INPUT DROP && iptables-legacy -N own && iptables-legacy -A INPUT -j own && iptables-legacy -A own -i wt0 -j ACCEPT",
		},
		{
			name: "only another interface", rules: "iptables-legacy -P INPUT DROP && iptables-legacy -A INPUT -i wt00 -j ACCEPT",
			advised: []string{"iptables-legacy -I INPUT -i wt0 -j ACCEPT"},
		},
	} {
		for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
			run(program + " -F && " + program + " -X && " + program + " -P INPUT ACCEPT && " + program + " -P FORWARD ACCEPT")
		}
		run(step.rules)
		if err := k.Set(t.Context(), hostConfig(step.routed)); err != nil {
			t.Fatal(err)
		}
		note := k.Status().Note
		if len(step.advised) == 0 {
			if note != "" {
				t.Errorf("%s: %s", step.name, note)
			}
			continue
		}
		commands := strings.Join(step.advised, " && ")
		if !strings.HasSuffix(note, "`"+commands+"`") {
			t.Errorf("%s: the note is %q and advises not %q", step.name, note, commands)
		}
		run(commands)
		if note := k.Status().Note; note != "" {
			t.Errorf("%s: after the commands: %s", step.name, note)
		}
	}
}

// FuzzLegacy gives tables in pieces to what reads them.
func FuzzLegacy(f *testing.F) {
	f.Add(make([]byte, 400))
	whole := make([]byte, 152)
	whole[88], whole[90] = 112, 152
	f.Add(whole)
	f.Fuzz(func(_ *testing.T, raw []byte) {
		for _, family := range legacies {
			family.commands(legacyLayout{End: [legacyHooks]uint32{400, 400, 400}}, raw, "wt0", true)
		}
	})
}
