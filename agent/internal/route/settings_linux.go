package route

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// errReadOnly is how the kernel refuses where /proc/sys cannot be written.
var errReadOnly error = unix.EROFS

// settingsRoot is where the kernel's network settings are. They are those of the network namespace of the thread.
const settingsRoot = "/proc/sys/net"

// changes are what the agent has changed on the host: rules and routes for an
// interface, and settings. None of it outlives a boot.
type changes struct {
	// Interface is whose rules and routes stand.
	Interface string `json:"interface"`

	// Table is the agent's as long as anything of it stands; 0 is the one of the
	// interface, as agents have it that do not write it down.
	Table    int       `json:"table,omitempty"`
	Settings []setting `json:"settings,omitempty"`
}

// slot is where the rules and routes are.
func (c changes) slot() int {
	if at := c.Table - table; at >= 0 && at < slots {
		return at
	}
	return slot(c.Interface)
}

// settings changes settings of the kernel and puts them back.
type settings struct {
	changes changes // without settings
	journal journal.File[changes]
	changed []setting // in the order of the changes
}

// note writes down what is changed, before it is.
func (s *settings) note(list []setting) error {
	noted := s.changes
	noted.Settings = list
	return s.journal.Write(noted)
}

// setting is one that was changed.
type setting struct {
	Name   string `json:"name"` // below settingsRoot
	Before string `json:"before"`
	Set    string `json:"set"`
}

// want makes these settings what they say and puts back all others that were changed.
func (s *settings) want(list []setting) error {
	var gone []setting
	for _, c := range slices.Backward(s.changed) {
		if !slices.ContainsFunc(list, func(w setting) bool { return w.Name == c.Name && w.Set == c.Set }) {
			gone = append(gone, c)
		}
	}
	var faults []error
	if len(gone) > 0 {
		faults = append(faults, s.putBack(gone), s.note(s.changed))
	}
	for _, wanted := range list {
		if err := s.change(wanted); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// change notes what was there before anything changes.
func (s *settings) change(wanted setting) error {
	now, err := readSetting(wanted.Name)
	if err != nil {
		return err
	}
	if now == wanted.Set {
		return nil
	}
	if known := slices.IndexFunc(s.changed, func(c setting) bool { return c.Name == wanted.Name }); known < 0 {
		wanted.Before = now
		next := append(slices.Clone(s.changed), wanted)
		if err := s.note(next); err != nil {
			return err
		}
		s.changed = next
	}
	return writeSetting(wanted.Name, wanted.Set)
}

// putBack restores settings that still are what they were set to; what somebody else has changed since is theirs.
func (s *settings) putBack(list []setting) error {
	var faults []error
	for _, c := range list {
		now, err := readSetting(c.Name)
		if err == nil && now == c.Set {
			err = writeSetting(c.Name, c.Before)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone with its interface
			faults = append(faults, err)
			continue
		}
		s.changed = slices.DeleteFunc(s.changed, func(o setting) bool { return o.Name == c.Name })
	}
	return errors.Join(faults...)
}

// restore puts everything back.
func (s *settings) restore() error {
	list := slices.Clone(s.changed)
	slices.Reverse(list)
	return s.putBack(list)
}

// valid reports whether a journal names settings of ours: nobody but us writes it.
func (c changes) valid() bool {
	return !slices.ContainsFunc(c.Settings, func(s setting) bool {
		return !filepath.IsLocal(s.Name) || strings.ContainsAny(s.Before+s.Set, "\x00\n")
	})
}

func readSetting(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(settingsRoot, name)) //nolint:gosec // a name of ours, or of our journal
	if err != nil {
		return "", fmt.Errorf("read the kernel's setting %s: %w", dotted(name), err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func writeSetting(name, value string) error {
	if err := os.WriteFile(filepath.Join(settingsRoot, name), []byte(value), 0o600); err != nil {
		return fmt.Errorf("change the kernel's setting %s to %s: %w", dotted(name), value, err)
	}
	return nil
}

// dotted is how sysctl(8) writes the name of a setting.
func dotted(name string) string {
	return "net." + strings.ReplaceAll(name, "/", ".")
}

// carry switches forwarding on where traffic of others comes in or goes out, and lets marked packets pass the check of
// their way back.
func (k *Kernel) carry(c Config, link int) error {
	var list []setting
	add := func(name, value string) {
		if !slices.ContainsFunc(list, func(s setting) bool { return s.Name == name }) {
			list = append(list, setting{Name: name, Set: value})
		}
	}
	if len(c.Destinations) > 0 {
		add("ipv4/conf/all/src_valid_mark", "1")
	}
	ipv6 := false
	for _, destination := range c.Carried {
		name, err := k.towards(destination)
		if err != nil {
			k.status.Notes = append(k.status.Notes, fmt.Sprintf("traffic to %s cannot be carried: this machine knows %v; give it a route there", destination, err))
			continue
		}
		if destination.Addr().Is4() {
			add("ipv4/conf/"+k.name+"/forwarding", "1")
			add("ipv4/conf/"+name+"/forwarding", "1")
			continue
		}
		ipv6 = true
	}
	if ipv6 {
		// IPv6 forwards for all interfaces or for none, and a router takes no router advertisements (RFC 4861, section
		// 6.2.2) unless it is told to.
		for _, name := range k.advertised() {
			add("ipv6/conf/"+name+"/accept_ra", "2")
		}
		add("ipv6/conf/all/forwarding", "1")
	}
	err := k.settings.want(list)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnly) {
		k.status.Notes = append(k.status.Notes, fmt.Sprintf("%v; set it before the agent starts, or let the agent write below %s", err, settingsRoot))
		return nil
	}
	if link != 0 {
		k.noteStrict(c)
	}
	return err
}

// advertised lists the interfaces that take router advertisements as long as they do not forward.
func (k *Kernel) advertised() (names []string) {
	links, err := k.handle.LinkList()
	if err != nil {
		return nil
	}
	for _, link := range links {
		name := link.Attrs().Name
		if value, err := readSetting("ipv6/conf/" + name + "/accept_ra"); err == nil && (value == "1" || k.settings.has("ipv6/conf/"+name+"/accept_ra")) {
			names = append(names, name)
		}
	}
	return names
}

func (s *settings) has(name string) bool {
	return slices.ContainsFunc(s.changed, func(c setting) bool { return c.Name == name })
}

// noteStrict tells when the kernel drops what comes back by another interface than it would leave by (RFC 3704,
// section 2.2): answers from an exit node to a machine whose default route is elsewhere.
func (k *Kernel) noteStrict(c Config) {
	if !slices.ContainsFunc(c.Destinations, func(p netip.Prefix) bool { return p.Addr().Is4() && whole(p) }) {
		return
	}
	if value, err := readSetting("ipv4/conf/" + k.name + "/rp_filter"); err == nil && value == "1" {
		if valid, err := readSetting("ipv4/conf/all/src_valid_mark"); err != nil || valid != "1" {
			k.status.Notes = append(k.status.Notes, "rp_filter is strict and src_valid_mark is off: packets of the exit node may be dropped; set net.ipv4.conf.all.src_valid_mark=1")
		}
	}
}
