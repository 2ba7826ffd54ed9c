package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// The registry of Windows, below HKEY_LOCAL_MACHINE. A rule of the name
// resolution policy table is a key below one of the first two:
//
//	{6e0b...}   Version            2
//	            Name               .mesh.example, .corp.example.org; "." is every name
//	            GenericDNSServers  100.64.0.1;fd00:1::1
//	            ConfigOptions      8: the servers are what the rule is about
//	            Comment            wattle wt0
//
// Where group policy has rules of its own those in the first place do not count,
// so ours stand in both then ([MS-GPNRPT], section 2.2.2).
const (
	localRules  = `SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig`
	policyRules = `SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig`
	interfaces  = `SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces`
	searchList  = "SearchList" // of an interface: its search domains with commas between them
)

// Values of rules.
const (
	ruleVersion    = 2
	genericServers = 8

	// maxNames is how many names a rule takes; more of them need several rules.
	maxNames = 50
)

// A registry is the one of Windows. A path has no backslash in front.
type registry interface {
	// Keys returns the names of the keys below one; none when it is not there.
	Keys(path string) ([]string, error)

	// Text returns a text; found is false when the key or the value is not there.
	Text(path, name string) (text string, found bool, err error)

	// Set makes a key if it is not there, and sets values of it: uint32, string or
	// []string. nil takes a value away.
	Set(path string, values map[string]any) error

	// Remove takes a key away; one that is not there is no fault.
	Remove(path string) error
}

// adapters are what else Windows knows of its interfaces and name servers.
type adapters interface {
	// GUID returns the id of an interface by its name, in braces.
	GUID(name string) (string, error)

	// Former returns what the interfaces that are up ask, but for one of this name.
	Former(except string) (Former, error)

	// Watch sends to events, which holds one, in the beginning and whenever Former
	// may be another, until ctx ends.
	Watch(ctx context.Context, events chan<- struct{}) error

	// Refresh makes the resolver of the machine read its rules again and forget
	// answers.
	Refresh() error
}

// An nrpt sets the name servers of Windows, by rules for the domains and, for
// single labels, the search domains of our interface.
type nrpt struct {
	logger   *slog.Logger
	registry registry
	adapters adapters
	journal  journal.File[record]

	mu     sync.Mutex // guards all below
	set    Config
	was    record // what has to be put back, as in the journal
	former Former
}

func newNRPT(o Options, r registry, a adapters) (*nrpt, error) {
	n := &nrpt{logger: o.Logger, registry: r, adapters: a, journal: o.journal()}
	var err error
	n.former, err = a.Former("")
	return n, err
}

// Set writes the rules. What there was before is on disk until it is back.
func (n *nrpt) Set(_ context.Context, c Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.isZero() {
		return n.putBack()
	}
	if n.set.equal(c) {
		return nil
	}
	for _, server := range c.Servers {
		if server.Port() != namePort {
			return fmt.Errorf("the rules of Windows cannot name the port %d; free port 53 of %s", server.Port(), server.Addr())
		}
	}
	if err := n.apply(c); err != nil {
		return fmt.Errorf("set the name servers of this machine: %w; if that goes on, start the daemon with --dns off", err)
	}
	n.set = c
	return nil
}

// apply writes the rules of c and takes away those of ours that it does not want.
// The caller holds mu.
func (n *nrpt) apply(c Config) error {
	guid, err := n.adapters.GUID(c.Interface)
	if err != nil {
		return err
	}
	rules, err := n.rules(c)
	if err != nil {
		return err
	}
	if err := n.remember(c, rules, interfaces+`\`+guid); err != nil {
		return err
	}
	for path, values := range rules {
		if err := n.registry.Set(path, values); err != nil {
			return err
		}
	}
	search := map[string]any{searchList: nil}
	if len(c.Search) > 0 {
		search[searchList] = strings.Join(c.Search, ",")
	}
	if err := n.registry.Set(interfaces+`\`+guid, search); err != nil {
		return err
	}
	for _, path := range n.was.Keys { // it may be in use again later, so they stay in the journal
		if rules[path] != nil {
			continue
		}
		if err := n.registry.Remove(path); err != nil {
			return err
		}
	}
	return n.adapters.Refresh()
}

// rules are the rules for c by their paths.
func (n *nrpt) rules(c Config) (map[string]map[string]any, error) {
	places := []string{localRules}
	others, err := n.registry.Keys(policyRules)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(others, func(key string) bool { return !slices.Contains(n.was.Keys, policyRules+`\`+key) }) {
		places = append(places, policyRules)
	}
	names := make([]string, 0, len(c.Match)+1)
	for _, domain := range c.Match {
		names = append(names, "."+domain)
	}
	if c.All {
		names = []string{"."}
	}
	rules := map[string]map[string]any{}
	for at, chunk := range slices.Collect(slices.Chunk(names, maxNames)) {
		for _, place := range places {
			rules[place+`\`+ruleKey(c.Interface, at)] = map[string]any{
				"Version": uint32(ruleVersion), "Name": chunk, "GenericDNSServers": strings.Join(addresses(c.Servers), ";"),
				"ConfigOptions": uint32(genericServers), "Comment": "wattle " + c.Interface,
			}
		}
	}
	return rules, nil
}

// ruleKey is the key of a rule: an id in braces, the same for the same interface.
func ruleKey(name string, at int) string {
	id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "https://github.com/wattlenet/wattle/nrpt/%s/%d", name, at))
	return "{" + id.String() + "}"
}

func addresses(servers []netip.AddrPort) (list []string) {
	for _, server := range servers {
		list = append(list, server.Addr().String())
	}
	return list
}

// remember writes to the journal what will be made and set, before it is. The
// caller holds mu.
func (n *nrpt) remember(c Config, rules map[string]map[string]any, key string) error {
	was := n.was
	was.Kind, was.Interface = NRPT, c.Interface
	was.Keys, was.Values = slices.Clone(was.Keys), slices.Clone(was.Values)
	for path := range rules {
		if !slices.Contains(was.Keys, path) {
			was.Keys = append(was.Keys, path)
		}
	}
	if !slices.ContainsFunc(was.Values, func(v registryValue) bool { return v.Key == key }) {
		value := registryValue{Key: key, Name: searchList}
		text, found, err := n.registry.Text(key, searchList)
		if err != nil {
			return err
		}
		if found {
			value.Was = &text
		}
		was.Values = append(was.Values, value)
	}
	if err := n.journal.Write(was); err != nil {
		return err
	}
	n.was = was
	return nil
}

// putBack takes everything of ours away. The caller holds mu.
func (n *nrpt) putBack() error {
	if n.was.Kind == "" {
		return nil
	}
	if err := undoNRPT(n.registry, n.adapters, n.was); err != nil {
		return fmt.Errorf("put the former name servers back: %w", err)
	}
	n.set, n.was = Config{}, record{}
	return n.journal.Forget()
}

// undoNRPT puts back what stands in a journal of the kind NRPT.
func undoNRPT(r registry, a adapters, was record) error {
	var faults []error
	for _, path := range was.Keys {
		faults = append(faults, r.Remove(path))
	}
	for _, value := range was.Values {
		// The interface, and its key with it, may be gone.
		if _, found, err := r.Text(value.Key, value.Name); err != nil || !found {
			faults = append(faults, err)
			continue
		}
		restored := map[string]any{value.Name: nil}
		if value.Was != nil {
			restored[value.Name] = *value.Was
		}
		faults = append(faults, r.Set(value.Key, restored))
	}
	return errors.Join(append(faults, a.Refresh())...)
}

// Former returns what the machine asks by itself.
func (n *nrpt) Former() Former {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.former
}

// Watch looks again whenever the name servers of an interface change.
func (n *nrpt) Watch(ctx context.Context, changed func()) error {
	return watching(ctx, n.adapters.Watch, func() (again bool) {
		other, err := n.look()
		if err != nil {
			n.logger.Warn("name servers not looked at", "error", err)
		}
		if other {
			changed()
		}
		return false
	})
}

// look reads what the machine asks by itself and reports whether that is another.
func (n *nrpt) look() (other bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	former, err := n.adapters.Former(n.set.Interface)
	if err != nil {
		return false, err
	}
	other = !slices.Equal(former.Servers, n.former.Servers)
	n.former = former
	return other, nil
}

// Status tells what was set.
func (n *nrpt) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Status{Kind: NRPT, Set: n.set, Former: n.former}
}

// Close takes everything of ours away.
func (n *nrpt) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.putBack()
}
