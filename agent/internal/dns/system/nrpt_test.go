package system

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeRegistry is a registry in memory: the values of each key by its path.
type fakeRegistry map[string]map[string]any

func (r fakeRegistry) Keys(path string) (names []string, err error) {
	for key := range r {
		if name, below := strings.CutPrefix(key, path+`\`); below && !strings.Contains(name, `\`) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (r fakeRegistry) Text(path, name string) (text string, found bool, err error) {
	switch value := r[path][name].(type) {
	case nil:
		return "", false, nil
	case string:
		return value, true, nil
	default:
		return "", false, fmt.Errorf("%s of %s is no text", name, path)
	}
}

func (r fakeRegistry) Set(path string, values map[string]any) error {
	if r[path] == nil {
		r[path] = map[string]any{}
	}
	for name, value := range values {
		switch value.(type) {
		case nil:
			delete(r[path], name)
		case uint32, string, []string:
			r[path][name] = value
		default:
			return fmt.Errorf("%s: the registry holds no %T", name, value)
		}
	}
	return nil
}

func (r fakeRegistry) Remove(path string) error {
	if names, _ := r.Keys(path); len(names) > 0 {
		return fmt.Errorf("there are keys below %s", path)
	}
	delete(r, path)
	return nil
}

// registryConforms checks everything that a registry promises, below a key that
// is not there.
func registryConforms(t *testing.T, r registry, root string) {
	t.Helper()
	key, below := root+`\{a}`, root+`\{a}\b`
	if names, err := r.Keys(root); err != nil || len(names) > 0 {
		t.Errorf("keys below nothing: %v, %v", names, err)
	}
	if text, found, err := r.Text(key, "Text"); err != nil || found || text != "" {
		t.Errorf("the text of nothing: %q, %v, %v", text, found, err)
	}
	if err := r.Remove(key); err != nil {
		t.Errorf("remove nothing: %v", err)
	}
	for range 2 {
		if err := r.Set(key, map[string]any{"Number": uint32(8), "Text": "a,b", "List": []string{".a", ".b"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Set(below, map[string]any{"Text": ""}); err != nil {
		t.Fatal(err)
	}
	if text, found, err := r.Text(key, "Text"); err != nil || !found || text != "a,b" {
		t.Errorf("the text: %q, %v, %v", text, found, err)
	}
	if text, found, err := r.Text(below, "Text"); err != nil || !found || text != "" {
		t.Errorf("an empty text: %q, %v, %v", text, found, err)
	}
	if _, _, err := r.Text(key, "Number"); err == nil {
		t.Error("a number is read as a text")
	}
	if names, err := r.Keys(root); err != nil || !slices.Equal(names, []string{"{a}"}) {
		t.Errorf("keys: %v, %v", names, err)
	}
	if err := r.Set(key, map[string]any{"Text": nil, "Never": nil}); err != nil {
		t.Fatal(err)
	}
	if _, found, err := r.Text(key, "Text"); err != nil || found {
		t.Errorf("a text that was taken away: %v, %v", found, err)
	}
	if err := r.Remove(key); err == nil {
		t.Error("a key with others below it was removed")
	}
	for _, path := range []string{below, key, root} {
		if err := r.Remove(path); err != nil {
			t.Error(err)
		}
	}
	if names, err := r.Keys(root); err != nil || len(names) > 0 {
		t.Errorf("keys are left: %v, %v", names, err)
	}
}

func TestFakeRegistryConforms(t *testing.T) {
	registryConforms(t, fakeRegistry{}, `SOFTWARE\Wattle-Test`)
}

// A windowsMachine is what Windows has of name servers, in memory.
type windowsMachine struct {
	registry fakeRegistry

	mu      sync.Mutex // guards all below
	server  string     // of its other interface
	reads   int        // of its rules
	applied []rule
	moved   chan struct{}
}

// A rule is what the resolver of Windows makes of a key.
type rule struct {
	names   []string
	servers []string
}

func newWindowsMachine() *windowsMachine {
	return &windowsMachine{registry: fakeRegistry{interfaces + `\{wt0}`: {}}, server: "192.0.2.53", moved: make(chan struct{}, 1)}
}

func (w *windowsMachine) GUID(name string) (string, error) { return "{" + name + "}", nil }

func (w *windowsMachine) Former(string) (Former, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Former{Servers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(w.server), namePort)}, Search: []string{"example.net"}}, nil
}

func (w *windowsMachine) Watch(ctx context.Context, events chan<- struct{}) error {
	for {
		select {
		case events <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.moved:
		}
	}
}

// Refresh reads the rules; those of group policy alone count where there are any.
func (w *windowsMachine) Refresh() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	place := policyRules
	keys, _ := w.registry.Keys(place)
	if len(keys) == 0 {
		place = localRules
		keys, _ = w.registry.Keys(place)
	}
	w.reads++
	w.applied = nil
	for _, key := range keys {
		values := w.registry[place+`\`+key]
		if values["Version"] != uint32(ruleVersion) || values["ConfigOptions"] != uint32(genericServers) {
			continue // not understood
		}
		names, _ := values["Name"].([]string)
		servers, _ := values["GenericDNSServers"].(string)
		if len(names) <= maxNames {
			w.applied = append(w.applied, rule{names, strings.Split(servers, ";")})
		}
	}
	return nil
}

// ask returns the servers of the rule with the longest end of a name, or those of
// the interface.
func (w *windowsMachine) ask(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest, servers := "", []string{w.server}
	for _, rule := range w.applied {
		for _, end := range rule.names {
			if len(end) > len(longest) && (end == "." || strings.HasSuffix("."+name, end)) {
				longest, servers = end, rule.servers
			}
		}
	}
	return servers
}

func (w *windowsMachine) open(t *testing.T, o Options) Setter {
	t.Helper()
	o.Kind = NRPT
	if err := undoWith(t.Context(), o, w.undo); err != nil {
		t.Fatal(err)
	}
	s, err := newNRPT(o, w.registry, w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *windowsMachine) undo(_ context.Context, was record) error {
	return undoNRPT(w.registry, w, was)
}

func (w *windowsMachine) place() place {
	return place{
		open: w.open, undo: w.undo,
		asks: func(t *testing.T) (servers, search []string) {
			servers = w.ask("web.mesh.example")
			if others := w.ask("corp.example.org"); !slices.Equal(servers, others) {
				t.Errorf("%v are asked for one domain, %v for the other", servers, others)
			}
			text, _, err := w.registry.Text(interfaces+`\{wt0}`, searchList)
			if err != nil {
				t.Fatal(err)
			}
			if text != "" {
				search = strings.Split(text, ",")
			}
			return servers, append(search, "example.net")
		},
		move: func(_ *testing.T, server string) {
			w.mu.Lock()
			w.server = server
			w.mu.Unlock()
			w.moved <- struct{}{}
		},
		former: "192.0.2.53", crash: true,
	}
}

// TestNRPTConforms also where group policy has rules, which hide those of others.
func TestNRPTConforms(t *testing.T) {
	for name, policy := range map[string]map[string]any{
		"alone":  nil,
		"policy": {"Version": uint32(ruleVersion), "ConfigOptions": uint32(genericServers), "Name": []string{".intra.example"}, "GenericDNSServers": "198.51.100.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWindowsMachine()
			if policy != nil {
				w.registry[policyRules+`\{theirs}`] = policy
			}
			if err := w.Refresh(); err != nil {
				t.Fatal(err)
			}
			before := cmp.Diff(fakeRegistry{}, w.registry)
			conform(t, w.place())
			if after := cmp.Diff(fakeRegistry{}, w.registry); after != before {
				t.Errorf("the registry was\n%s and is\n%s", before, after)
			}
			if policy != nil && w.ask("x.intra.example")[0] != "198.51.100.1" {
				t.Error("the rules of group policy do not act any more")
			}
		})
	}
}

// TestNRPTPutsTheSearchListBack: the search domains of the interface are those
// that somebody set before.
func TestNRPTPutsTheSearchListBack(t *testing.T) {
	w := newWindowsMachine()
	w.registry[interfaces+`\{wt0}`][searchList] = "was.example"
	s := w.open(t, Options{Logger: quiet, Journal: filepath.Join(t.TempDir(), "dns.json")})
	for _, c := range []Config{wish, other, {}} {
		if err := s.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.registry[interfaces+`\{wt0}`][searchList]; got != "was.example" {
		t.Errorf("the search domains are %v", got)
	}
}

// TestNRPTTakesManyDomains: the reverse domains of one network alone are 64, and a
// rule takes 50 names. The rules that a smaller Config leaves over go.
func TestNRPTTakesManyDomains(t *testing.T) {
	w := newWindowsMachine()
	s := w.open(t, Options{Logger: quiet, Journal: filepath.Join(t.TempDir(), "dns.json")})
	many := wish
	for at := range 120 {
		many.Match = append(many.Match, fmt.Sprintf("%d.example.org", at))
	}
	for _, step := range []struct {
		c     Config
		rules int
	}{{many, 3}, {wish, 1}, {many, 3}, {other, 1}} {
		if err := s.Set(t.Context(), step.c); err != nil {
			t.Fatal(err)
		}
		if len(w.applied) != step.rules {
			t.Errorf("%d domains make %d rules, want %d", len(step.c.Match), len(w.applied), step.rules)
		}
		for _, domain := range step.c.Match {
			if got := w.ask("x." + domain); got[0] != ours.Addr().String() {
				t.Errorf("%s is asked of %v", domain, got)
			}
		}
		if got := w.ask("elsewhere.example"); (got[0] == ours.Addr().String()) != step.c.All {
			t.Errorf("all names %v: others are asked of %v", step.c.All, got)
		}
	}
	reads := w.reads
	if err := s.Set(t.Context(), other); err != nil || w.reads != reads {
		t.Errorf("the same again: %v, the rules were read %d times more", err, w.reads-reads)
	}
	c := wish
	c.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.87.53:5387")}
	if err := s.Set(t.Context(), c); err == nil || !strings.Contains(err.Error(), "5387") {
		t.Errorf("another port: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
