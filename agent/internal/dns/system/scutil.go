package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The dynamic store of macOS holds what configd and others say about the network:
//
//	State:/Network/Global/DNS                   what the machine asks by itself
//	State:/Network/Service/wattle-utun7-0/DNS   what is asked of us
//
// scutil(8) reads and writes it, in lines of text.
const (
	globalKey     = "State:/Network/Global/DNS"
	servicePrefix = "State:/Network/Service/wattle-"
	serviceSuffix = "/DNS"
)

// maxLine bounds a line for scutil in bytes, which reads 2048 at most: longer
// lists take several keys.
const maxLine = 1500

// A storeEntry is a dictionary of the dynamic store that names our servers for
// some domains. Single labels are tried in these as well; the empty one stands
// for every name.
type storeEntry struct {
	key     string
	servers []string
	port    uint16
	domains []string
}

// storeEntries are what the store has to hold for c.
func storeEntries(c Config) (entries []storeEntry) {
	domains := slices.Clone(c.Search)
	if c.All {
		domains = append([]string{""}, domains...)
	}
	port, servers := samePort(c.Servers)
	length := maxLine // of the last entry's list
	for _, domain := range domains {
		if length += len(domain) + 1; length > maxLine {
			key := fmt.Sprintf("%s%s-%d%s", servicePrefix, c.Interface, len(entries), serviceSuffix)
			entries = append(entries, storeEntry{key: key, servers: servers, port: port})
			length = len(domain)
		}
		last := &entries[len(entries)-1]
		last.domains = append(last.domains, domain)
	}
	return entries
}

// samePort returns the port of the first server, and the servers that have it:
// macOS knows one for all of them.
func samePort(servers []netip.AddrPort) (port uint16, same []string) {
	port = servers[0].Port()
	for _, server := range servers {
		if server.Port() == port {
			same = append(same, server.Addr().String())
		}
	}
	return port, same
}

// script makes the entry, in the words of scutil.
func (e storeEntry) script() string {
	var text strings.Builder
	text.WriteString("d.init\nd.add ServerAddresses * " + strings.Join(e.servers, " ") + "\n")
	if e.port != namePort {
		fmt.Fprintf(&text, "d.add ServerPort # %d\n", e.port)
	}
	text.WriteString("d.add SupplementalMatchDomains *")
	for _, domain := range e.domains {
		if domain == "" {
			domain = `""`
		}
		text.WriteString(" " + domain)
	}
	text.WriteString("\nset " + e.key + "\n")
	return text.String()
}

// A scutil is the dynamic store behind the program of that name.
type scutil struct{ program string }

// change sets entries and removes keys; one that is not there is no fault. The
// program always ends well, so that what was set is read again.
func (s scutil) change(ctx context.Context, set []storeEntry, remove []string) error {
	var script strings.Builder
	for _, entry := range set {
		script.WriteString(entry.script())
	}
	for _, key := range remove {
		script.WriteString("remove " + key + "\n")
	}
	if script.Len() == 0 {
		return nil
	}
	said, err := run(ctx, s.program, script.String()+"quit\n")
	if err != nil {
		return err
	}
	lost, err := s.lost(ctx, set)
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("%s did not set %s: %s", s.program, lost[0].key, strings.TrimSpace(said))
	}
	return err
}

// lost returns the entries that the store does not hold.
func (s scutil) lost(ctx context.Context, entries []storeEntry) (lost []storeEntry, err error) {
	for _, entry := range entries {
		held, err := s.show(ctx, entry.key)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(held["ServerAddresses"], entry.servers) {
			lost = append(lost, entry)
		}
	}
	return lost, nil
}

// show returns the lists of a dictionary of the store; none when it is not there.
func (s scutil) show(ctx context.Context, key string) (map[string][]string, error) {
	said, err := run(ctx, s.program, "show "+key+"\nquit\n")
	if err != nil {
		return nil, err
	}
	return parseDictionary(said), nil
}

// global returns what the machine asks without us.
func (s scutil) global(ctx context.Context) (Former, error) {
	held, err := s.show(ctx, globalKey)
	if err != nil {
		return Former{}, fmt.Errorf("read the name servers of this machine: %w", err)
	}
	former := Former{Search: held["SearchDomains"]}
	for _, server := range held["ServerAddresses"] {
		if addr, err := netip.ParseAddr(server); err == nil {
			former.Servers = append(former.Servers, netip.AddrPortFrom(addr, namePort))
		}
	}
	return former, nil
}

// parseDictionary reads the lists of a dictionary as scutil shows it; the other
// values, and what is not understood, are left out.
//
//	<dictionary> {
//	  DomainName : example.net
//	  ServerAddresses : <array> {
//	    0 : 192.0.2.53
//	  }
//	}
func parseDictionary(text string) map[string][]string {
	lists := map[string][]string{}
	list := ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " :")
		value = strings.TrimSpace(value)
		switch {
		case strings.TrimSpace(line) == "}":
			list = ""
		case ok && value == "<array> {":
			list = name
		case ok && list != "":
			lists[list] = append(lists[list], value)
		}
	}
	return lists
}

// errNoStore is why scutil is not the way here.
var errNoStore = errors.New("it is not on this machine")
