//go:build unix

package system

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A mac is what a machine with macOS has of name servers: a dynamic store behind
// a program that stands in for scutil(8), and a folder of files.
type mac struct{ dir, program, folder, resolv string }

func newMac(t *testing.T) mac {
	t.Helper()
	dir := t.TempDir()
	m := mac{dir: dir, program: filepath.Join(dir, "scutil"), folder: filepath.Join(dir, "resolver"), resolv: filepath.Join(dir, "resolv.conf")}
	program, err := os.ReadFile(filepath.Join("testdata", "scutil"))
	if err == nil {
		err = os.WriteFile(m.program, program, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.move(t, "192.0.2.53")
	return m
}

// move makes the machine ask another server by itself.
func (m mac) move(t *testing.T, server string) {
	t.Helper()
	script := "d.init\nd.add DomainName example.net\nd.add SearchDomains * example.net\nd.add ServerAddresses * " + server + "\nset " + globalKey + "\n"
	if _, err := run(t.Context(), m.program, script); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.resolv, []byte("# macOS Notice\nnameserver "+server+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m mac) options(o Options) Options {
	o.Path, o.Kind = m.resolv, Scutil
	return o
}

func (m mac) undo(ctx context.Context, was record) error { return undoMacOS(ctx, m.program, was) }

func (m mac) open(t *testing.T, o Options) Setter {
	t.Helper()
	if err := undoWith(t.Context(), m.options(o), m.undo); err != nil {
		t.Fatal(err)
	}
	s, err := newMacOS(t.Context(), m.options(o), m.program, m.folder)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dictionaries are those of the store that name servers for domains.
func (m mac) dictionaries(t *testing.T) (all []map[string][]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "store", "State__Network_Service_*"))
	if err != nil {
		t.Fatal(err)
	}
	for at := range files {
		held, err := scutil{m.program}.show(t.Context(), servicePrefix+"wt0-"+string(rune('0'+at))+serviceSuffix)
		if err != nil || held == nil {
			t.Fatal(held, err)
		}
		all = append(all, held)
	}
	return all
}

// ask returns the servers for a domain: of a file of its name, else of the
// dictionary with it, else of the one with every name, else of the machine.
func (m mac) ask(t *testing.T, domain string) []string {
	t.Helper()
	if text, err := readFile(filepath.Join(m.folder, domain)); err == nil {
		return hosts(parseFile(text).former().Servers)
	}
	for _, wanted := range []string{domain, ""} {
		for _, held := range m.dictionaries(t) {
			if slices.Contains(held["SupplementalMatchDomains"], wanted) {
				return held["ServerAddresses"]
			}
		}
	}
	former, err := scutil{m.program}.global(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hosts(former.Servers)
}

func (m mac) place() place {
	return place{
		open: m.open, move: m.move, undo: m.undo,
		asks: func(t *testing.T) (servers, search []string) {
			servers = m.ask(t, "mesh.example")
			if others := m.ask(t, "corp.example.org"); !slices.Equal(servers, others) {
				t.Errorf("%v are asked for one domain, %v for the other", servers, others)
			}
			for _, held := range m.dictionaries(t) {
				for _, domain := range held["SupplementalMatchDomains"] {
					if domain != "" {
						search = append(search, domain)
					}
				}
			}
			return servers, append(search, "example.net")
		},
		former: "192.0.2.53", crash: true,
	}
}

func TestMacOSConforms(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	conform(t, m.place())
	if _, err := os.Stat(m.folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder %s, which was not there, is left: %v", m.folder, err)
	}
}

// TestMacOSAsksForEveryName: a group for all names makes the machine ask us for
// those that no domain holds.
func TestMacOSAsksForEveryName(t *testing.T) {
	m := newMac(t)
	s := m.open(t, Options{Logger: quiet, Journal: filepath.Join(m.dir, "dns.json")})
	for _, test := range []struct {
		c    Config
		want string
	}{{wish, "192.0.2.53"}, {other, ours.Addr().String()}, {wish, "192.0.2.53"}} {
		if err := s.Set(t.Context(), test.c); err != nil {
			t.Fatal(err)
		}
		if got := m.ask(t, "elsewhere.example"); got[0] != test.want {
			t.Errorf("all names %v: the machine asks %v, want %s", test.c.All, got, test.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMacOSFilesOfOthers: a file that was there comes back to the byte, and so
// does one that is no longer wanted while others are.
func TestMacOSFilesOfOthers(t *testing.T) {
	m := newMac(t)
	const own = "# by hand\nnameserver 198.51.100.7\nport 5300\n"
	path := filepath.Join(m.folder, "corp.example.org")
	if err := errors.Join(os.Mkdir(m.folder, 0o700), os.WriteFile(path, []byte(own), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := m.open(t, Options{Logger: quiet, Journal: filepath.Join(m.dir, "dns.json")})
	odd := wish
	odd.Match, odd.Servers = []string{"lab.example.org"}, []netip.AddrPort{netip.MustParseAddrPort("127.0.87.53:5387")}
	for _, c := range []Config{wish, odd, wish, odd} {
		if err := s.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		text, err := readFile(path)
		if err != nil || (text == own) == slices.Equal(c.Match, wish.Match) {
			t.Errorf("for %v it holds %q, %v", c.Match, text, err)
		}
	}
	if text, err := readFile(filepath.Join(m.folder, "lab.example.org")); err != nil || !strings.Contains(text, "nameserver 127.0.87.53\nport 5387\n") {
		t.Errorf("another port: %q, %v", text, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(m.folder)
	text, readErr := readFile(path)
	if err != nil || readErr != nil || len(left) != 1 || text != own {
		t.Errorf("%v are left, it holds %q; %v, %v", left, text, err, readErr)
	}
}

// TestMacOSSetsAgainWhatWasLost: configd forgets what was set when it starts
// anew.
func TestMacOSSetsAgainWhatWasLost(t *testing.T) {
	m := newMac(t)
	s := m.open(t, Options{Logger: quiet, Journal: filepath.Join(m.dir, "dns.json")}).(*macOS)
	if err := errors.Join(s.Set(t.Context(), wish), s.store.change(t.Context(), nil, s.was.Keys)); err != nil {
		t.Fatal(err)
	}
	if other, err := s.look(t.Context()); other || err != nil {
		t.Error(other, err)
	}
	if got := m.ask(t, "mesh.example"); got[0] != ours.Addr().String() {
		t.Errorf("the machine asks %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMacOSReportsARefusal: scutil ends well whatever it did.
func TestMacOSReportsARefusal(t *testing.T) {
	m := newMac(t)
	s := m.open(t, Options{Logger: quiet, Journal: filepath.Join(m.dir, "dns.json")})
	if err := os.WriteFile(m.program, []byte("#!/bin/sh\necho '  Permission denied'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(t.Context(), wish); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("error %v", err)
	}
}

func TestDomainsThatAreNoFiles(t *testing.T) {
	m := newMac(t)
	s := m.open(t, Options{Logger: quiet, Journal: filepath.Join(m.dir, "dns.json")})
	for _, domain := range []string{"..", "../etc", "a/b", "/etc", ".", ""} {
		c := wish
		c.Match = []string{domain}
		if err := s.Set(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot be the name of a file") {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

func TestLinesForScutilAreShort(t *testing.T) {
	c := wish
	c.Search = nil
	for at := range 100 {
		c.Search = append(c.Search, strings.Repeat("a", 60)+"."+strings.Repeat("b", 20+at%7)+".example")
	}
	var domains []string
	keys := map[string]bool{}
	for _, entry := range storeEntries(c) {
		for line := range strings.Lines(entry.script()) {
			if len(line) > 2000 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		domains, keys[entry.key] = append(domains, entry.domains...), true
	}
	if diff := cmp.Diff(c.Search, domains); diff != "" || len(keys) < 2 {
		t.Errorf("%d keys; %s", len(keys), diff)
	}
}

func FuzzParseDictionary(f *testing.F) {
	f.Add("<dictionary> {\n  SearchDomains : <array> {\n    0 : example.net\n  }\n  ServerAddresses : <array> {\n    0 : 192.0.2.53\n    1 : fe80::1\n  }\n}\n")
	f.Add("  No such key\n")
	f.Add("a : <array> {\n}\n0 : x")
	f.Fuzz(func(t *testing.T, text string) {
		for name, list := range parseDictionary(text) {
			for _, value := range list {
				if !strings.Contains(text, value) || !strings.Contains(text, name) {
					t.Errorf("%q: %q came from nowhere", name, value)
				}
			}
		}
	})
}
