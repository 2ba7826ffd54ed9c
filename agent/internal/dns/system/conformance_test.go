package system

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A place is a machine of one kind, on which a Setter is tried.
type place struct {
	// open opens the Setter, after what Open does for a crash.
	open func(t *testing.T, o Options) Setter

	// asks returns the servers that the programs of the machine ask for names of
	// the network, and the domains in which they try single labels.
	asks func(t *testing.T) (servers, search []string)

	// move makes the machine ask another server without us, as in another network;
	// nil where it cannot be done here.
	move func(t *testing.T, server string)

	// undo puts back what stands in a manager, in the place of this system's own.
	undo func(ctx context.Context, was record) error

	former string // the server that the machine asks without us
	crash  bool   // whether what was set outlives the process
}

// quiet is a logger for what no test looks at.
var quiet = slog.New(slog.DiscardHandler)

var (
	ours  = netip.MustParseAddrPort("100.64.0.1:53")
	ours6 = netip.MustParseAddrPort("[fd00:1::1]:53")
	wish  = Config{
		Interface: "wt0", Servers: []netip.AddrPort{ours, ours6},
		Search: []string{"mesh.example"}, Match: []string{"mesh.example", "corp.example.org"},
	}
	other = Config{Interface: "wt0", Servers: []netip.AddrPort{ours}, Search: []string{"mesh.example", "corp.example.org"}, Match: []string{"mesh.example", "corp.example.org"}, All: true}
)

// conform checks everything that Setter promises.
func conform(t *testing.T, p place) {
	o := Options{Logger: quiet, Journal: filepath.Join(t.TempDir(), "dns.json"), Path: resolvConf}
	s := p.open(t, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p.untouched(t, s, "opened")

	set := func(c Config) {
		t.Helper()
		if err := s.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, s.Status().Set, comparePorts, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
	for _, c := range []Config{wish, other} {
		set(c)
		p.touched(t, s, c)
		before, search := p.asks(t)
		set(c)
		if again, searchAgain := p.asks(t); !slices.Equal(before, again) || !slices.Equal(search, searchAgain) {
			t.Errorf("the same again changes %v to %v", before, again)
		}
	}
	if p.crash {
		if _, err := os.Stat(o.Journal); err != nil {
			t.Error("nothing on disk tells what to put back:", err)
		}
	}
	set(Config{})
	p.untouched(t, s, "set to nothing")
	if _, err := os.Stat(o.Journal); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a journal is left:", err)
	}
	if p.move != nil {
		p.moves(t, s)
	}

	// A process that ends without a word.
	set(wish)
	if p.crash {
		if p.undo == nil {
			p.undo = undo
		}
		if err := undoWith(t.Context(), o, p.undo); err != nil {
			t.Fatal(err)
		}
		p.untouched(t, nil, "undone")
		if err := undoWith(t.Context(), o, p.undo); err != nil {
			t.Error("a second time:", err)
		}
	}
	next := p.open(t, o)
	if err := next.Set(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	p.touched(t, next, other)
	for range 2 {
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.untouched(t, nil, "closed")
}

var comparePorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func (p *place) untouched(t *testing.T, s Setter, when string) {
	t.Helper()
	servers, search := p.asks(t)
	if slices.Contains(servers, ours.Addr().String()) || slices.Contains(search, "mesh.example") {
		t.Errorf("%s: the machine asks %v, in %v", when, servers, search)
	}
	p.formerly(t, s, when)
}

func (p *place) touched(t *testing.T, s Setter, c Config) {
	t.Helper()
	servers, search := p.asks(t)
	for i, want := range c.Servers {
		if i >= len(servers) || servers[i] != want.Addr().String() {
			t.Fatalf("the machine asks %v, want %v before all others", servers, c.Servers)
		}
	}
	if len(search) < len(c.Search) || !slices.Equal(search[:len(c.Search)], c.Search) {
		t.Errorf("the machine searches %v, want %v first", search, c.Search)
	}
	p.formerly(t, s, "set")
}

func (p *place) formerly(t *testing.T, s Setter, when string) {
	t.Helper()
	if s == nil {
		return
	}
	want := []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(p.former), 53)}
	if diff := cmp.Diff(want, s.Former().Servers, comparePorts); diff != "" {
		t.Errorf("%s: former servers: %s", when, diff)
	}
}

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// moves checks that Watch tells of another network, and that what was set stays.
func (p *place) moves(t *testing.T, s Setter) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	changed := make(chan struct{}, 16)
	running.Go(func() {
		if err := s.Watch(ctx, func() { changed <- struct{}{} }); err != nil {
			t.Error(err)
		}
	})
	for _, server := range []string{"192.0.2.77", p.former} {
		if err := s.Set(t.Context(), wish); err != nil {
			t.Fatal(err)
		}
		p.move(t, server)
		want := netip.AddrPortFrom(netip.MustParseAddr(server), 53)
		limit := time.NewTimer(patience)
		for !slices.Equal(s.Former().Servers, []netip.AddrPort{want}) {
			select {
			case <-changed:
			case <-limit.C:
				t.Fatalf("after %v the former servers are %v, want %s", patience, s.Former().Servers, want)
			}
		}
		limit.Stop()
		servers, _ := p.asks(t)
		if !slices.Contains(servers, ours.Addr().String()) {
			t.Errorf("the machine has moved and asks %v", servers)
		}
		if err := s.Set(t.Context(), Config{}); err != nil {
			t.Fatal(err)
		}
		if servers, _ := p.asks(t); slices.Contains(servers, ours.Addr().String()) || !slices.Contains(servers, server) {
			t.Errorf("put back after a move: the machine asks %v, want %s", servers, server)
		}
	}
}

func TestFakeConforms(t *testing.T) {
	var now *Fake
	conform(t, place{
		open: func(*testing.T, Options) Setter {
			now = &Fake{}
			now.SetFormer(Former{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
			return now
		},
		asks: func(*testing.T) (servers, search []string) {
			status := now.Status()
			if status.Set.isZero() {
				return hosts(status.Former.Servers), status.Former.Search
			}
			return hosts(status.Set.Servers), status.Set.Search
		},
		move: func(_ *testing.T, server string) {
			now.SetFormer(Former{Servers: []netip.AddrPort{netip.MustParseAddrPort(server + ":53")}})
		},
		former: "192.0.2.53",
	})
}

func hosts(servers []netip.AddrPort) (list []string) {
	for _, server := range servers {
		list = append(list, server.Addr().String())
	}
	return list
}

const byHand = "# by hand\nnameserver 192.0.2.53\nsearch example.net\noptions timeout:2\n"

// filePlace is a machine whose file is at a path of the test.
func filePlace(path string) place {
	return place{
		open: func(t *testing.T, o Options) Setter {
			o.Path, o.Kind = path, File
			if err := Undo(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			return newFile(o)
		},
		asks: func(t *testing.T) (servers, search []string) {
			text, err := readFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f := parseFile(text)
			return hosts(f.former().Servers), f.search
		},
		move: func(t *testing.T, server string) {
			if err := os.WriteFile(path, []byte("# Generated by dhclient\nnameserver "+server+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		former: "192.0.2.53", crash: true,
	}
}

func TestFileConforms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(byHand), 0o644); err != nil {
		t.Fatal(err)
	}
	conform(t, filePlace(path))
}

func TestLinkedFileConforms(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "real"), []byte(byHand), 0o644), os.Symlink("real", path)); err != nil {
		t.Fatal(err)
	}
	p := filePlace(path)
	p.move = nil // writing through the link would write the file of others
	conform(t, p)
	if target, err := os.Readlink(path); err != nil || target != "real" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if text, err := readFile(filepath.Join(dir, "real")); err != nil || text != byHand {
		t.Errorf("the file behind the link holds %q, %v", text, err)
	}
}

func TestFileComesBackToTheByte(t *testing.T) {
	for name, test := range map[string]struct {
		before  string
		missing bool
		mode    os.FileMode
	}{
		"by hand": {before: byHand, mode: 0o640},
		"empty":   {mode: 0o644},
		"missing": {missing: true},
		"no end":  {before: "nameserver 192.0.2.53", mode: 0o644},
		"odd":     {before: "nameserver\nfoo\n\x00\nnameserver fe80::1%eth0\n; x\n", mode: 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf")}
			if !test.missing {
				if err := errors.Join(os.WriteFile(o.Path, []byte(test.before), 0o600), os.Chmod(o.Path, test.mode)); err != nil {
					t.Fatal(err)
				}
			}
			f := newFile(o)
			if err := errors.Join(f.Set(t.Context(), wish), f.Set(t.Context(), other), f.Close()); err != nil {
				t.Fatal(err)
			}
			text, err := readFile(o.Path)
			if test.missing {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is a file: %q, %v", text, err)
				}
				return
			}
			info, statErr := os.Stat(o.Path)
			if err != nil || statErr != nil || text != test.before || info.Mode().Perm() != test.mode {
				t.Errorf("it holds %q with mode %v, %v", text, info.Mode(), err)
			}
		})
	}
}

func TestWhoWritesLaterIsNotOverruled(t *testing.T) {
	dir := t.TempDir()
	o := Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf")}
	f := newFile(o)
	if err := f.Set(t.Context(), wish); err != nil {
		t.Fatal(err)
	}
	const later = "nameserver 198.51.100.1\n" // by the DHCP client of the next boot
	if err := os.WriteFile(o.Path, []byte(later), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Undo(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if text, err := readFile(o.Path); err != nil || text != later {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestTheOtherWriterIsNamed(t *testing.T) {
	dir := t.TempDir()
	o := Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf")}
	f := newFile(o)
	if err := f.Set(t.Context(), wish); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Path, []byte("# Generated by dhcpcd\nnameserver 198.51.100.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, _ := f.repair(); !changed {
		t.Error("the former servers did not change")
	}
	if note := f.Status().Note; !strings.Contains(note, "Generated by dhcpcd") {
		t.Errorf("note %q", note)
	}
	// A copy of ours is no former state to come back to.
	if err := os.WriteFile(o.Path, []byte("nameserver 100.64.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, _ := f.repair(); changed {
		t.Error("our own address was taken for a former server")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := readFile(o.Path); err != nil || !strings.Contains(text, "198.51.100.1") {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestNothingChangesWithoutAJournal(t *testing.T) {
	dir := t.TempDir()
	o := Options{Logger: quiet, Journal: filepath.Join(dir, "missing", "dns.json"), Path: filepath.Join(dir, "resolv.conf")}
	if err := os.WriteFile(o.Path, []byte(byHand), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := newFile(o).Set(t.Context(), wish); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("error %v", err)
	}
	if text, err := readFile(o.Path); err != nil || text != byHand {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestTwoAgentsDoNotTakeTurns(t *testing.T) {
	dir := t.TempDir()
	o := Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf")}
	// Every machine has lo, so the first agent counts as one that runs.
	first := renderFile(Config{Interface: "lo", Servers: []netip.AddrPort{ours}}, resolvFile{})
	if err := os.WriteFile(o.Path, []byte(first), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := newFile(o).Set(t.Context(), wish); err == nil || !strings.Contains(err.Error(), "another wattle agent") {
		t.Errorf("error %v", err)
	}
	if text, err := readFile(o.Path); err != nil || text != first {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestOtherPortsAreRefused(t *testing.T) {
	c := wish
	c.Servers = []netip.AddrPort{netip.MustParseAddrPort("100.64.0.1:5053")}
	dir := t.TempDir()
	f := newFile(Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf")})
	if err := f.Set(t.Context(), c); err == nil || !strings.Contains(err.Error(), "5053") {
		t.Errorf("error %v", err)
	}
}

func TestOffTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	o := Options{Logger: quiet, Journal: filepath.Join(dir, "dns.json"), Path: filepath.Join(dir, "resolv.conf"), Kind: Off}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Set(t.Context(), wish), s.Close()); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func FuzzParseFile(f *testing.F) {
	for _, text := range []string{byHand, renderFile(wish, parseFile(byHand)), "search\nnameserver \x00\n;", "options a b\ndomain x y z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := parseFile(text)
		again := parseFile(renderFile(wish, found))
		if again.ours != "wt0" || len(again.servers) != 2 || !slices.Equal(again.options, found.options) {
			t.Errorf("%+v became %+v", found, again)
		}
	})
}
