package control

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddressesToTellOf(t *testing.T) {
	m := Machine{Overlay: netip.MustParsePrefix("100.64.0.0/16").Contains}
	for text, want := range map[string]string{
		"192.168.1.5/24":        "192.168.1.5/24",
		"203.0.113.9/32":        "203.0.113.9/32",
		"2001:db8::1/64":        "2001:db8::1/64",
		"fd12::7/48":            "fd12::7/48",
		"100.64.3.4/16":         "", // of the network
		"100.65.3.4/16":         "100.65.3.4/16",
		"127.0.0.1/8":           "",
		"::1/128":               "",
		"169.254.7.7/16":        "",
		"fe80::1/64":            "",
		"224.0.0.1/4":           "",
		"0.0.0.0/0":             "",
		"::ffff:192.0.2.1/120":  "",
		"::ffff:198.51.100.1/0": "",
	} {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		network.IP = ip
		if got, ok := m.told(network); ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v %t, want %q", text, got, ok, want)
		}
	}
}

// The machine that runs the test tells facts that the contract takes.
func TestFactsOfThisMachine(t *testing.T) {
	m := Machine{AgentVersion: "1.2.3", Hostname: "one", Overlay: func(netip.Addr) bool { return true }}
	facts, err := m.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	if faults := facts.Validate(); faults != nil {
		t.Error(faults)
	}
	if facts.Hostname != "one" || facts.RunningProcesses != nil || facts.NetworkAddresses == nil || len(*facts.NetworkAddresses) != 0 {
		t.Errorf("facts %+v", facts)
	}
}

func TestRunningPrograms(t *testing.T) {
	dir := t.TempDir()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"first", "second", "third"} {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at("first"), at("alias")); err != nil {
		t.Skipf("SKIPPED: no symbolic links here: %v", err)
	}
	list := []executable{
		{path: at("first"), link: at("first")},
		{path: at("second"), link: at("third")},    // another file under this name, as in a container
		{path: at("gone")},                         // deleted
		{path: at("elsewhere"), link: at("third")}, // not visible to the agent
	}
	asked := []string{at("first"), at("second"), at("third"), at("gone"), at("elsewhere"), at("alias"), at("first"), at("missing"), "relative", ""}
	want := []string{at("first"), at("gone"), at("elsewhere"), at("alias")}
	if diff := cmp.Diff(want, running(asked, list)); diff != "" {
		t.Error(diff)
	}
	if none := running(asked, nil); none == nil || len(none) != 0 {
		t.Errorf("%#v run, want an empty list", none)
	}
}
