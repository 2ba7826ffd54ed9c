package function

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3/16": "10.1.0.0/16", "10.1.2.3": "10.1.2.3/32", "FD00::1/48": "fd00::/48", "::1": "::1/128",
		"::ffff:10.0.0.1/104": "10.0.0.0/8", "::ffff:10.0.0.1": "10.0.0.1/32", "0.0.0.0/0": "0.0.0.0/0",
		"10.0.0.0/33": "", "10.0.0": "", "fe80::1%eth0": "", "": "", "::ffff:10.0.0.1/40": "", "10.01.0.0/16": "",
	} {
		p, err := parsePrefix(text)
		got := p.String()
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
}

func TestExclude(t *testing.T) {
	for _, c := range []struct{ whole, holes, want string }{
		{"10.0.0.0/8", "", "10.0.0.0/8"},
		{"10.0.0.0/8", "192.168.0.0/16", "10.0.0.0/8"},
		{"10.0.0.0/8", "10.0.0.0/8", ""},
		{"10.0.0.0/8", "0.0.0.0/0", ""},
		{"10.0.0.0/24", "10.0.0.128/26", "10.0.0.0/25 10.0.0.192/26"},
		{"10.0.0.0/30", "10.0.0.1/32 10.0.0.2/32", "10.0.0.0/32 10.0.0.3/32"},
		{"fd00::/126", "fd00::3/128", "fd00::/127 fd00::2/128"},
		{"10.0.0.0/8", "fd00::/8", "10.0.0.0/8"},
	} {
		holes := []netip.Prefix{}
		for text := range strings.FieldsSeq(c.holes) {
			holes = append(holes, netip.MustParsePrefix(text))
		}
		got := []string{}
		for _, p := range exclude(netip.MustParsePrefix(c.whole), holes) {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(strings.Join(got, " "), c.want); diff != "" {
			t.Errorf("%s without %s: %s", c.whole, c.holes, diff)
		}
	}
}

// FuzzExclude asks about every address of a small network.
func FuzzExclude(f *testing.F) {
	f.Add(uint8(24), uint8(26), uint8(128), uint8(32), uint8(3))
	f.Add(uint8(28), uint8(20), uint8(0), uint8(31), uint8(255))
	f.Fuzz(func(t *testing.T, bits, bits1, last1, bits2, last2 uint8) {
		network := func(bits, last uint8) netip.Prefix {
			p, _ := netip.AddrFrom4([4]byte{10, 0, 0, last}).Prefix(int(bits % 33))
			return p
		}
		whole := network(24+bits%9, 0)
		holes := []netip.Prefix{network(bits1, last1), network(bits2, last2)}
		rest := exclude(whole, holes)
		if !slices.IsSortedFunc(rest, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }) {
			t.Errorf("%v is not in order", rest)
		}
		for addr := whole.Addr(); whole.Contains(addr); addr = addr.Next() {
			in := 0
			for _, p := range rest {
				if p.Contains(addr) {
					in++
				}
			}
			want := 1
			if holes[0].Contains(addr) || holes[1].Contains(addr) {
				want = 0
			}
			if in != want {
				t.Fatalf("%s without %v is %v: %s is there %d times, want %d", whole, holes, rest, addr, in, want)
			}
		}
	})
}

func TestUpCommand(t *testing.T) {
	pin := "sha256:" + strings.Repeat("0f", 32)
	for _, c := range []struct {
		url, pin, file, want string
		argument             int64
	}{
		{"https://mesh.example:8443", pin, "/run/key", "wattle up --management-url https://mesh.example:8443 --ca-pin " + pin + " --setup-key-file /run/key", 0},
		{"https://mesh.example", "", "/run/ada's key", `wattle up --management-url https://mesh.example --setup-key-file '/run/ada'\''s key'`, 0},
		{"http://mesh.example", "", "/run/key", "", 0},
		{"https://ada:secret@mesh.example", "", "/run/key", "", 0},
		{"https://mesh.example", "sha256:0f", "/run/key", "", 1},
		{"https://mesh.example", "", "key", "", 2},
	} {
		got, argument, err := upCommand(c.url, c.pin, c.file)
		if got != c.want || argument != c.argument || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %d, %v", c, got, argument, err)
		}
	}
}

// TestQuoted asks a shell.
func TestQuoted(t *testing.T) {
	for _, word := range []string{"plain", "two words", "it's", "$HOME `id` \\ \"", "*", "a\nb", ""} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quoted(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q comes out as %q, %v", word, out, err)
		}
	}
}
