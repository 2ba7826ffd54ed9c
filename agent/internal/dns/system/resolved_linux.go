package system

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// What systemd-resolved is on the bus (org.freedesktop.resolve1(5)).
const (
	resolvedName  = "org.freedesktop.resolve1"
	resolvedIface = "org.freedesktop.resolve1.Manager"
)

var resolvedObject = object{resolvedName, "/org/freedesktop/resolve1"}

// busTimeout bounds one conversation with a manager.
const busTimeout = 5 * time.Second

// formerLife is how long the answer of systemd-resolved about other links holds:
// it does not tell when that changes.
const formerLife = 2 * time.Second

// resolved sets the name servers of our link in systemd-resolved, which asks them
// for the domains of the link and others for the rest.
type resolved struct {
	logger  *slog.Logger
	journal journal.File[record]
	bus     bus

	mu     sync.Mutex // guards all below
	set    Config
	index  int // of the link
	former Former
	read   time.Time // when former was
	closed bool
}

// linkServer is a server with its port and the name in its certificate.
type linkServer struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string
}

// linkDomain is a domain of a link; one that only routes is no search domain.
type linkDomain struct {
	Domain string
	Routes bool
}

// findResolved returns the Setter if systemd-resolved answers the programs of
// this machine.
func findResolved(ctx context.Context, o Options) (Setter, error) {
	r := &resolved{logger: o.Logger, journal: o.journal()}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if !r.bus.running(ctx, resolvedName) {
		return nil, errors.Join(errNotRunning, r.bus.close())
	}
	text, err := readFile(o.path())
	if err != nil || !asksResolved(parseFile(text)) {
		return nil, errors.Join(errElsewhere, r.bus.close())
	}
	return r, nil
}

// errNotRunning is why a manager is not the one.
var errNotRunning = errors.New("it does not run on this machine")

// asksResolved reports whether a resolv.conf leads to the stub of systemd-resolved,
// or is written by it (systemd-resolved.service(8)).
func asksResolved(f resolvFile) bool {
	stub := netip.AddrFrom4([4]byte{127, 0, 0, 53})
	return slices.Contains(f.servers, stub) || f.ours == "" && f.title == "This is /run/systemd/resolve/resolv.conf managed by man:systemd-resolved(8)."
}

// Set tells systemd-resolved about our link.
func (r *resolved) Set(ctx context.Context, c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.isZero() {
		return r.putBack(ctx)
	}
	link, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return explained(Resolved, err)
	}
	if r.set.equal(c) && r.index == link.Index {
		return nil
	}
	if err := r.journal.Write(record{Kind: Resolved, Interface: c.Interface}); err != nil {
		return err
	}
	if err := r.tell(ctx, link.Index, c); err != nil {
		return explained(Resolved, err)
	}
	r.set, r.index = c, link.Index
	return nil
}

// tell sets everything that systemd-resolved knows of a link. The domains come
// before the servers: nothing is asked of us that we do not want.
func (r *resolved) tell(ctx context.Context, index int, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	do := func(method string, args ...any) error {
		return r.bus.call(ctx, resolvedObject, resolvedIface+"."+method, append([]any{int32(index)}, args...))
	}
	if err := do("SetLinkDomains", linkDomains(c)); err != nil {
		return err
	}
	if err := do("SetLinkDefaultRoute", c.All); err != nil && !missing(err) {
		return err
	}
	// Our names are signed by nobody, and no neighbour is asked for them.
	for _, off := range []string{"SetLinkDNSSEC", "SetLinkDNSOverTLS", "SetLinkLLMNR", "SetLinkMulticastDNS"} {
		if err := do(off, "no"); err != nil && !missing(err) {
			return err
		}
	}
	servers := make([]linkServer, 0, len(c.Servers))
	for _, server := range c.Servers {
		servers = append(servers, linkServer{family(server.Addr()), server.Addr().AsSlice(), server.Port(), ""})
	}
	if err := do("SetLinkDNSEx", servers); err != nil {
		return err
	}
	return r.bus.call(ctx, resolvedObject, resolvedIface+".FlushCaches", nil)
}

func linkDomains(c Config) []linkDomain {
	var domains []linkDomain
	for _, domain := range c.Search {
		domains = append(domains, linkDomain{domain, false})
	}
	for _, domain := range c.Match {
		if !slices.Contains(c.Search, domain) {
			domains = append(domains, linkDomain{domain, true})
		}
	}
	if c.All {
		domains = append(domains, linkDomain{".", true})
	}
	return domains
}

func family(addr netip.Addr) int32 {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// putBack makes systemd-resolved forget our link. The caller holds mu.
func (r *resolved) putBack(ctx context.Context) error {
	if r.set.isZero() {
		return nil
	}
	if err := revert(ctx, &r.bus, r.index); err != nil {
		return explained(Resolved, err)
	}
	r.set, r.index = Config{}, 0
	return r.journal.Forget()
}

// revert makes systemd-resolved forget what was set for a link. One that is gone
// is forgotten already.
func revert(ctx context.Context, b *bus, index int) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	err := b.call(ctx, resolvedObject, resolvedIface+".RevertLink", []any{int32(index)})
	if hasName(err, "org.freedesktop.resolve1.NoSuchLink") || !b.running(ctx, resolvedName) {
		return nil
	}
	return err
}

// Former returns the servers of all other links, or those that systemd-resolved
// falls back to.
func (r *resolved) Former() Former {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.read) < formerLife || r.closed {
		return r.former
	}
	ctx, cancel := context.WithTimeout(context.Background(), busTimeout)
	defer cancel()
	var found Former
	for _, property := range []string{"DNSEx", "FallbackDNSEx"} {
		var servers []struct {
			Index   int32
			Family  int32
			Address []byte
			Port    uint16
			Name    string
		}
		if err := r.bus.get(ctx, resolvedObject, resolvedIface, property, &servers); err != nil {
			r.logger.Debug("name servers of other links not read", "error", err)
			return r.former
		}
		for _, server := range servers {
			addr, ok := netip.AddrFromSlice(server.Address)
			if !ok || server.Index == int32(r.index) && r.index != 0 {
				continue
			}
			at := netip.AddrPortFrom(addr, 53)
			if server.Port != 0 {
				at = netip.AddrPortFrom(addr, server.Port)
			}
			if !slices.Contains(found.Servers, at) {
				found.Servers = append(found.Servers, at)
			}
		}
		if len(found.Servers) > 0 {
			break
		}
	}
	r.former, r.read = found, time.Now()
	return found
}

// Watch tells systemd-resolved again when it has been started again.
func (r *resolved) Watch(ctx context.Context, changed func()) error {
	return r.bus.follow(ctx, [][]dbus.MatchOption{ownerChanged(resolvedName)}, func(signal *dbus.Signal) {
		if !appeared(signal, resolvedName) {
			return
		}
		r.mu.Lock()
		if !r.set.isZero() {
			if err := r.tell(ctx, r.index, r.set); err != nil {
				r.logger.Warn("name servers not set again", "error", err)
			}
		}
		r.read = time.Time{}
		r.mu.Unlock()
		changed()
	})
}

// ownerChanged matches the signal that a program gained or lost its name.
func ownerChanged(name string) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name),
	}
}

// appeared reports whether a signal tells that a program got its name.
func appeared(signal *dbus.Signal, name string) bool {
	if signal == nil || signal.Name != "org.freedesktop.DBus.NameOwnerChanged" || len(signal.Body) != 3 {
		return false
	}
	owner, ok := signal.Body[2].(string)
	return ok && owner != "" && signal.Body[0] == name
}

// Status tells what our link has.
func (r *resolved) Status() Status {
	former := r.Former()
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Kind: Resolved, Set: r.set, Former: former}
}

// Close makes systemd-resolved forget our link.
func (r *resolved) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.putBack(context.Background())
	if err == nil {
		r.closed = true
		err = r.bus.close()
	}
	return err
}
