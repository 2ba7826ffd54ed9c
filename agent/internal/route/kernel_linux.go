package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/claim"
	"github.com/wattlenet/wattle/agent/internal/journal"
)

// A Kernel is the Host on Linux, by rtnetlink and the settings below /proc/sys/net.
type Kernel struct {
	log         *slog.Logger
	name        string
	slot, table int
	handle      *netlink.Handle
	settings    *settings
	claim       io.Closer // of the table

	mu     sync.Mutex // guards all below and the order of changes
	status Status
	noted  bool // the journal tells of us
	closed bool
	idle   bool // nothing of ours stands, and nothing was wanted last
}

var families = [...]int{unix.AF_INET, unix.AF_INET6}

// NewKernel opens rtnetlink. What a former agent of the same journal has left
// stays until the first Set, which makes it what is wanted, also when its
// interface had another name: what must not leave the host goes on being refused.
// The error says why the kernel cannot be told, such as that other agents have all
// tables.
func NewKernel(o Options) (*Kernel, error) {
	if o.Logger == nil || o.Interface == "" || o.Journal == "" {
		return nil, errors.New("route: logger, interface and journal are required")
	}
	file := journal.File[changes]{Path: o.Journal}
	entry, err := file.Read()
	if err == nil && entry != nil && (!entry.ThisBoot || !entry.Was.valid()) {
		entry, err = nil, file.Forget() // all of it ended with that boot
	}
	if err != nil {
		return nil, fmt.Errorf("remove the routes that a former agent has left: %w", err)
	}
	if entry == nil {
		return newKernel(o, o.Interface, places(slot(o.Interface)))
	}
	k, err := newKernel(o, o.Interface, places(entry.Was.slot()))
	if err != nil {
		return nil, err
	}
	k.settings.changed = entry.Was.Settings
	return k, nil
}

// places lists the slots in the order in which they are tried.
func places(first int) []int {
	list := make([]int, slots)
	for i := range list {
		list[i] = (first + i) % slots
	}
	return list
}

// newKernel claims the first table that is free. The first of the list is the
// agent's own, whatever stands in it; another one that refuses something is left
// to the agent that was killed there and comes back.
func newKernel(o Options, name string, places []int) (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	var taken error
	for i, at := range places {
		claimed, err := claim.Take(fmt.Sprintf("routing table %d", table+at))
		if err != nil {
			taken = cmp.Or(taken, err)
			continue
		}
		k := &Kernel{
			log: o.Logger, name: name, slot: at, table: table + at, handle: handle, claim: claimed,
			settings: &settings{changes: changes{Interface: name, Table: table + at}, journal: journal.File[changes]{Path: o.Journal}},
		}
		if i == 0 {
			return k, nil
		}
		kept, err := k.refuses()
		if err == nil && !kept {
			return k, nil
		}
		taken = errors.Join(taken, err, claimed.Close())
	}
	handle.Close()
	if len(places) == slots {
		return nil, fmt.Errorf("other agents of this host have the routing tables %d to %d; stop one of them: %w", table, table+slots-1, taken)
	}
	return nil, taken
}

// release gives back what newKernel took.
func (k *Kernel) release() error {
	k.handle.Close()
	return k.claim.Close()
}

// Undo puts back what an agent that was killed has left, as its journal says.
// What another agent uses now is not touched.
func Undo(o Options) error {
	file := journal.File[changes]{Path: o.Journal}
	entry, err := file.Read()
	if err != nil || entry == nil {
		return err
	}
	was := entry.Was
	if !entry.ThisBoot || !was.valid() {
		return file.Forget() // all of it ended with that boot
	}
	k, err := newKernel(o, was.Interface, []int{was.slot()})
	if _, taken := errors.AsType[claim.Taken](err); taken {
		return file.Forget() // the agent that has the table has made it its own
	}
	if err != nil {
		return err
	}
	k.settings.changed = was.Settings
	kept := false
	if o.KeepRefused {
		kept, err = k.refuses()
	}
	if !kept {
		err = errors.Join(err, k.clear())
	}
	err = errors.Join(err, k.settings.restore())
	switch {
	case err != nil:
		err = fmt.Errorf("remove the routes that a former agent has left: %w", err)
	case kept:
		tellClosed(k.log)
		err = k.settings.note(k.settings.changed)
	default:
		err = file.Forget()
	}
	return errors.Join(err, k.release())
}

// refuses reports whether our table refuses anything.
func (k *Kernel) refuses() (bool, error) {
	for _, family := range families {
		present, err := k.present(family)
		if err != nil {
			return false, err
		}
		for e := range present {
			if e.refused {
				return true, nil
			}
		}
	}
	return false, nil
}

// Set makes the host what c says. What is there already stays untouched. After an error the next call tries again.
func (k *Kernel) Set(_ context.Context, c Config) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errors.New("route: the host is closed")
	}
	wanted := entries(c)
	idle := len(wanted) == 0 && len(c.Carried) == 0
	if idle && k.idle {
		return nil // nobody else makes rules or routes of ours
	}
	link := 0
	if len(wanted) > 0 || len(c.Carried) > 0 {
		found, err := k.handle.LinkByName(k.name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", k.name, err)
		}
		link = found.Attrs().Index
	}
	k.status = Status{}
	if link != 0 {
		if err := k.begin(); err != nil {
			return err
		}
	}
	var faults []error
	for _, family := range families {
		if err := k.setFamily(c, wanted, family, link); err != nil {
			faults = append(faults, err)
		}
	}
	if err := k.carry(c, link); err != nil {
		faults = append(faults, err)
	}
	k.idle = idle && len(faults) == 0 && len(k.settings.changed) == 0
	return errors.Join(faults...)
}

// begin makes sure that the journal names our interface before there are rules.
func (k *Kernel) begin() error {
	if k.noted {
		return nil
	}
	err := k.settings.note(k.settings.changed)
	k.noted = err == nil
	return err
}

// setFamily brings rules and routes of one family up to date: routes are there before a rule leads to them, and go
// after it.
func (k *Kernel) setFamily(c Config, wanted []entry, family, link int) error {
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(e entry) bool { return familyOf(e.prefix.Addr()) != family })
	inbound, err := k.inbound(c, family, link)
	if err != nil {
		return err
	}
	rules := k.rules(c, family, inbound)
	if len(rules) == 0 {
		wanted = nil
	}
	present, err := k.present(family)
	if err != nil {
		return err
	}
	have, err := k.ours(family)
	if err != nil {
		return err
	}
	for _, e := range wanted {
		if _, known := present[e]; known {
			delete(present, e)
			continue
		}
		r := k.route(e, link)
		if err := k.handle.RouteReplace(&r); err != nil {
			return fmt.Errorf("add the route to %s: %w", e.prefix, err)
		}
	}
	for _, r := range rules {
		if _, known := have[name(r)]; known {
			delete(have, name(r))
			continue
		}
		if err := k.handle.RuleAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the routing rule %d: %w", r.Priority, err)
		}
	}
	if err := k.remove(have, present); err != nil {
		return err
	}
	if len(rules) == 0 {
		return nil
	}
	return k.look(c, family, link)
}

func (k *Kernel) remove(rules map[string]netlink.Rule, routes map[entry]netlink.Route) error {
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		r := rules[id]
		if err := k.handle.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the routing rule %d: %w", r.Priority, err)
		}
	}
	for e, r := range routes {
		if err := k.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route to %s: %w", e.prefix, err)
		}
	}
	return nil
}

// present reads the routes of our table.
func (k *Kernel) present(family int) (map[entry]netlink.Route, error) {
	list, err := k.handle.RouteListFiltered(family, &netlink.Route{Table: k.table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("read the routes of table %d: %w", k.table, err)
	}
	present := map[entry]netlink.Route{}
	for _, r := range list {
		if r.Protocol != protocol {
			continue // of somebody else, who has to know
		}
		r.Family = family
		if e, ok := entryOf(r); ok {
			present[e] = r
		}
	}
	return present, nil
}

// ours reads our rules.
func (k *Kernel) ours(family int) (map[string]netlink.Rule, error) {
	list, err := k.handle.RuleList(family)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("read the routing rules: %w", err)
	}
	have := map[string]netlink.Rule{}
	for _, r := range list {
		r.Family = family
		at := r.Priority - k.slot
		if r.Protocol == protocol && (at == priorityNetwork || at == priorityMain || at == priorityTunnel) {
			have[name(r)] = r
		}
	}
	return have, nil
}

// clear removes everything of ours.
func (k *Kernel) clear() error {
	for _, family := range families {
		rules, err := k.ours(family)
		if err != nil {
			return err
		}
		routes, err := k.present(family)
		if err != nil {
			return err
		}
		if err := k.remove(rules, routes); err != nil {
			return err
		}
	}
	return nil
}

// look finds the local subnets that destinations overlap.
func (k *Kernel) look(c Config, family, link int) error {
	list, err := k.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("read the routes of the host: %w", err)
	}
	for _, r := range list {
		subnet, ok := prefixOf(r.Dst, family)
		if !ok || whole(subnet) || r.LinkIndex == link || subnet.Addr().IsLinkLocalUnicast() || c.LocalToo {
			continue
		}
		for _, destination := range c.Destinations {
			if !whole(destination) && destination.Overlaps(subnet) {
				k.status.Local = append(k.status.Local, Local{Destination: destination, Subnet: subnet, Interface: k.nameOf(r.LinkIndex)})
			}
		}
	}
	return nil
}

func (k *Kernel) nameOf(index int) string {
	link, err := k.handle.LinkByIndex(index)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}

// Status says what holds after the last Set.
func (k *Kernel) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Status{Local: slices.Clone(k.status.Local), Notes: slices.Clone(k.status.Notes)}
}

// Close leaves the host as it was.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	err := errors.Join(k.clear(), k.settings.restore())
	if err == nil {
		err = k.settings.journal.Forget()
	}
	if err == nil {
		k.closed = true
		err = k.release()
	}
	return err
}

// Suspend leaves the host as a kill does where something is refused, and as it
// was where nothing is.
func (k *Kernel) Suspend() (refuses bool, err error) {
	k.mu.Lock()
	if !k.closed {
		refuses, err = k.refuses()
	}
	if refuses {
		k.closed = true
		tellClosed(k.log)
		err = errors.Join(err, k.release())
	}
	k.mu.Unlock()
	if refuses {
		return true, err
	}
	return false, errors.Join(err, k.Close())
}

// tellClosed is the last word of a daemon, or of the cleanup after it, on a
// machine that stays closed.
func tellClosed(log *slog.Logger) {
	log.Warn("the exit node of this machine fails closed: nothing leaves but to local subnets until a daemon leads there again; `wattle cleanup` opens the machine")
}

// towards returns the interface by which the host itself reaches a destination.
func (k *Kernel) towards(destination netip.Prefix) (string, error) {
	list, err := k.handle.RouteListFiltered(familyOf(destination.Addr()), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("read the routes of the host: %w", err)
	}
	best, index := -1, 0
	for _, r := range list {
		at := r.LinkIndex
		if at == 0 && len(r.MultiPath) > 0 {
			at = r.MultiPath[0].LinkIndex
		}
		subnet, ok := prefixOf(r.Dst, familyOf(destination.Addr()))
		if ok && at != 0 && subnet.Bits() > best && subnet.Bits() <= destination.Bits() && subnet.Contains(destination.Addr()) {
			best, index = subnet.Bits(), at
		}
	}
	if index == 0 {
		return "", fmt.Errorf("no way to %s", destination)
	}
	return k.nameOf(index), nil
}
