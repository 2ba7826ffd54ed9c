package system

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// What NetworkManager is on the bus (its D-Bus API reference).
const (
	managerName   = "org.freedesktop.NetworkManager"
	managerIface  = "org.freedesktop.NetworkManager"
	deviceIface   = "org.freedesktop.NetworkManager.Device"
	ipv4Iface     = "org.freedesktop.NetworkManager.IP4Config"
	ipv6Iface     = "org.freedesktop.NetworkManager.IP6Config"
	globalDNS     = "GlobalDnsConfiguration"
	propertyIface = "org.freedesktop.DBus.Properties"
)

var managerObject = object{managerName, "/org/freedesktop/NetworkManager"}

// networkManager sets the DNS of NetworkManager as a whole, which wins over that
// of all connections: it asks us, and we ask the servers of the connections.
//
// Servers on the connection of our device would be the gentler way, but
// NetworkManager makes the device its own then, with addresses and IPv6 settings.
type networkManager struct {
	logger  *slog.Logger
	journal journal.File[record]
	bus     bus

	mu     sync.Mutex // guards all below
	set    Config
	before globalConfig // what was set as a whole before us, seldom anything
	former Former
	closed bool
}

// findNetworkManager returns the Setter if NetworkManager writes resolv.conf.
func findNetworkManager(ctx context.Context, o Options) (Setter, error) {
	n := &networkManager{logger: o.Logger, journal: o.journal()}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if !n.bus.running(ctx, managerName) {
		return nil, errors.Join(errNotRunning, n.bus.close())
	}
	text, err := readFile(o.path())
	if err != nil || !strings.Contains(parseFile(text).title, "NetworkManager") {
		return nil, errors.Join(errElsewhere, n.bus.close())
	}
	if n.before, err = n.read(ctx); err != nil {
		return nil, errors.Join(err, n.bus.close())
	}
	n.refresh(ctx)
	return n, nil
}

// Set makes NetworkManager ask us.
func (n *networkManager) Set(ctx context.Context, c Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.isZero() {
		return n.putBack(ctx)
	}
	for _, server := range c.Servers {
		if server.Port() != 53 {
			return explained(NetworkManager, errors.New("it takes port 53 only, which another program has"))
		}
	}
	if n.set.equal(c) {
		return nil
	}
	before := n.before
	if err := n.journal.Write(record{Kind: NetworkManager, Interface: c.Interface, Servers: c.Servers, Global: &before}); err != nil {
		return err
	}
	if err := n.write(ctx, globalOf(c, n.former)); err != nil {
		return explained(NetworkManager, err)
	}
	n.set = c
	return nil
}

// globalOf is c, with the search domains that the connections have.
func globalOf(c Config, former Former) globalConfig {
	g := globalConfig{Searches: slices.Clone(c.Search), Domains: map[string]globalDomain{"*": {Servers: addressesOf(c.Servers)}}}
	for _, domain := range former.Search {
		if !slices.Contains(g.Searches, domain) {
			g.Searches = append(g.Searches, domain)
		}
	}
	return g
}

func addressesOf(servers []netip.AddrPort) (list []string) {
	for _, server := range servers {
		list = append(list, server.Addr().String())
	}
	return list
}

// write sets the DNS as a whole.
func (n *networkManager) write(ctx context.Context, g globalConfig) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	value := map[string]dbus.Variant{}
	if len(g.Domains) > 0 {
		domains := map[string]dbus.Variant{}
		for name, domain := range g.Domains {
			domains[name] = dbus.MakeVariant(map[string]dbus.Variant{
				"servers": dbus.MakeVariant(append([]string{}, domain.Servers...)), "options": dbus.MakeVariant(append([]string{}, domain.Options...)),
			})
		}
		value["searches"] = dbus.MakeVariant(append([]string{}, g.Searches...))
		value["options"] = dbus.MakeVariant(append([]string{}, g.Options...))
		value["domains"] = dbus.MakeVariant(domains)
	}
	return n.bus.call(ctx, managerObject, propertyIface+".Set", []any{managerIface, globalDNS, dbus.MakeVariant(value)})
}

// read returns the DNS as a whole.
func (n *networkManager) read(ctx context.Context) (g globalConfig, err error) {
	var value map[string]dbus.Variant
	if err := n.bus.get(ctx, managerObject, managerIface, globalDNS, &value); err != nil {
		return g, err
	}
	var domains map[string]dbus.Variant
	if err := store(value, map[string]any{"searches": &g.Searches, "options": &g.Options, "domains": &domains}); err != nil {
		return g, err
	}
	for name, variant := range domains {
		var inner map[string]dbus.Variant
		if err := variant.Store(&inner); err != nil {
			return g, fmt.Errorf("read the DNS of NetworkManager: %w", err)
		}
		var domain globalDomain
		if err := store(inner, map[string]any{"servers": &domain.Servers, "options": &domain.Options}); err != nil {
			return g, err
		}
		if g.Domains == nil {
			g.Domains = map[string]globalDomain{}
		}
		g.Domains[name] = domain
	}
	return g, nil
}

// store puts the values that are there into their places.
func store(values map[string]dbus.Variant, into map[string]any) error {
	for name, place := range into {
		if value, given := values[name]; given {
			if err := value.Store(place); err != nil {
				return fmt.Errorf("read %s of NetworkManager: %w", name, err)
			}
		}
	}
	return nil
}

// putBack makes NetworkManager ask whom it asked before. The caller holds mu.
func (n *networkManager) putBack(ctx context.Context) error {
	if n.set.isZero() {
		return nil
	}
	if err := n.give(ctx, n.before, n.set.Servers); err != nil {
		return explained(NetworkManager, err)
	}
	n.set = Config{}
	return n.journal.Forget()
}

// give makes NetworkManager ask whom it asked before if it still asks us: who set
// something else since knows better.
func (n *networkManager) give(ctx context.Context, before globalConfig, set []netip.AddrPort) error {
	now, err := n.read(ctx)
	if err == nil && !slices.Equal(now.Domains["*"].Servers, addressesOf(set)) {
		return nil
	}
	if err == nil {
		err = n.write(ctx, before)
	}
	return err
}

// Former returns the servers of the connections, those that NetworkManager
// prefers first.
func (n *networkManager) Former() Former {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.former
}

// refresh reads Former and reports whether it is another than before.
func (n *networkManager) refresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	found, err := n.connections(ctx)
	if err != nil {
		n.logger.Debug("name servers of connections not read", "error", err)
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	same := slices.Equal(found.Servers, n.former.Servers)
	n.former = found
	return !same
}

// connections reads the DNS of all devices that are in use.
func (n *networkManager) connections(ctx context.Context) (Former, error) {
	var devices []dbus.ObjectPath
	if err := n.bus.get(ctx, managerObject, managerIface, "Devices", &devices); err != nil {
		return Former{}, err
	}
	var all []deviceDNS
	for _, device := range devices {
		for property, iface := range map[string]string{"Ip4Config": ipv4Iface, "Ip6Config": ipv6Iface} {
			var path dbus.ObjectPath
			if err := n.bus.get(ctx, object{managerName, device}, deviceIface, property, &path); err != nil || path == "/" {
				continue // gone meanwhile, or not in use
			}
			found, err := n.device(ctx, object{managerName, path}, iface)
			if err == nil && len(found.servers) > 0 {
				all = append(all, found)
			}
		}
	}
	slices.SortFunc(all, func(a, b deviceDNS) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.path, b.path))
	})
	var former Former
	for _, one := range all {
		for _, addr := range one.servers {
			if at := netip.AddrPortFrom(addr, 53); !slices.Contains(former.Servers, at) {
				former.Servers = append(former.Servers, at)
			}
		}
		for _, domain := range one.search {
			if !slices.Contains(former.Search, domain) {
				former.Search = append(former.Search, domain)
			}
		}
	}
	return former, nil
}

// deviceDNS is the DNS of one device for one version of IP.
type deviceDNS struct {
	path     dbus.ObjectPath
	priority int32
	servers  []netip.Addr
	search   []string
}

func (n *networkManager) device(ctx context.Context, config object, iface string) (deviceDNS, error) {
	d := deviceDNS{path: config.path}
	var all map[string]dbus.Variant
	if err := n.bus.call(ctx, config, propertyIface+".GetAll", []any{iface}, &all); err != nil {
		return d, err
	}
	var ipv4 []map[string]dbus.Variant
	var ipv6 [][]byte
	wanted := map[string]any{"DnsPriority": &d.priority, "Searches": &d.search, "NameserverData": &ipv4}
	if iface == ipv6Iface {
		delete(wanted, "NameserverData") // in newer versions only
		wanted["Nameservers"] = &ipv6
	}
	if err := store(all, wanted); err != nil {
		return d, err
	}
	for _, server := range ipv4 {
		var text string
		if err := store(server, map[string]any{"address": &text}); err != nil {
			return d, err
		}
		if addr, err := netip.ParseAddr(text); err == nil {
			d.servers = append(d.servers, addr)
		}
	}
	for _, raw := range ipv6 {
		if addr, ok := netip.AddrFromSlice(raw); ok {
			d.servers = append(d.servers, addr)
		}
	}
	return d, nil
}

// Watch follows the connections, and sets our servers again when NetworkManager
// has been started again.
func (n *networkManager) Watch(ctx context.Context, changed func()) error {
	matches := [][]dbus.MatchOption{ownerChanged(managerName), {
		dbus.WithMatchPathNamespace(managerObject.path), dbus.WithMatchInterface(propertyIface), dbus.WithMatchMember("PropertiesChanged"),
	}}
	return n.bus.follow(ctx, matches, func(signal *dbus.Signal) {
		if !concernsDNS(signal) {
			return
		}
		if appeared(signal, managerName) {
			n.mu.Lock()
			if !n.set.isZero() {
				if err := n.write(ctx, globalOf(n.set, n.former)); err != nil {
					n.logger.Warn("name servers not set again", "error", err)
				}
			}
			n.mu.Unlock()
		}
		if n.refresh(ctx) {
			changed()
		}
	})
}

// concernsDNS reports whether a signal may tell of other servers; that a wireless
// network became weaker does not.
func concernsDNS(signal *dbus.Signal) bool {
	if signal == nil || appeared(signal, managerName) {
		return true
	}
	if len(signal.Body) < 2 {
		return false
	}
	switch signal.Body[0] {
	case ipv4Iface, ipv6Iface:
		return true
	case deviceIface:
		changes, _ := signal.Body[1].(map[string]dbus.Variant)
		return slices.ContainsFunc(slices.Collect(maps.Keys(changes)), func(name string) bool {
			return name == "Ip4Config" || name == "Ip6Config"
		})
	}
	return false
}

// Status tells what NetworkManager was told.
func (n *networkManager) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Status{Kind: NetworkManager, Set: n.set, Former: n.former}
}

// Close makes NetworkManager ask whom it asked before.
func (n *networkManager) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	err := n.putBack(context.Background())
	if err == nil {
		n.closed = true
		err = n.bus.close()
	}
	return err
}
