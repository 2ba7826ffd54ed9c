package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rules of iptables-legacy stand in tables of their own kernel interface
// (x_tables), which nftables neither shows nor changes, and a drop in them is as
// final. They are read here and never written: whoever made them has a program
// for that, which the status names with its arguments.
//
//	getsockopt(ipt_getinfo)      where the built-in chains begin and end
//	getsockopt(ipt_get_entries)  one entry after the other:
//	                             [ addresses, interfaces ... ][ matches ][ target ]

// legacy is the interface of one family (linux/netfilter_ipv4/ip_tables.h and
// linux/netfilter_ipv6/ip6_tables.h).
type legacy struct {
	program    string
	names      string // of the file that lists its tables
	module     string // of the kernel, with the table filter
	family     int
	level      int
	interfaces int // offset of the interface in an entry
	target     int // offset of the target's offset
	length     int // of an entry without matches
}

var legacies = [...]legacy{
	{"iptables-legacy", "/proc/net/ip_tables_names", "iptable_filter", unix.AF_INET, unix.SOL_IP, 16, 88, 112},
	{"ip6tables-legacy", "/proc/net/ip6_tables_names", "ip6table_filter", unix.AF_INET6, unix.SOL_IPV6, 64, 140, 168},
}

// Of linux/netfilter/x_tables.h and linux/netfilter.h.
const (
	legacyInfo    = 64
	legacyEntries = 65

	legacyName   = 32 // bytes of the name of a table, and of the head of a target
	legacyHead   = 40 // bytes before the first entry
	hookInput    = 1
	hookForward  = 2
	legacyHooks  = 5
	legacyDrop   = -1
	legacyAccept = -2
)

// legacyLayout is struct ipt_getinfo.
type legacyLayout struct {
	Name       [legacyName]byte
	Hooks      uint32
	Begin, End [legacyHooks]uint32 // offsets of the first entry and of the policy
	Number     uint32
	Size       uint32
}

// legacyRule is an entry as far as it matters here.
type legacyRule struct {
	at      int
	in, out string // interfaces; empty for any
	bare    bool   // it asks for nothing but interfaces
	target  string // empty for a verdict
	verdict int32
}

// legacyNote tells the commands that let the tunnel through the tables of
// iptables-legacy; empty when it passes, or when nobody uses them.
func legacyNote(name string, carries bool) string {
	var commands []string
	for _, family := range legacies {
		// Asking for a table makes one where there is none.
		if !family.inUse() {
			continue
		}
		layout, raw, err := family.read()
		if err == nil {
			commands = append(commands, family.commands(layout, raw, name, carries)...)
		}
	}
	if len(commands) == 0 {
		return ""
	}
	return fmt.Sprintf("the firewall of this host, iptables-legacy, drops what comes by %s, and only its own program can change it: `%s`", name, strings.Join(commands, " && "))
}

// inUse reports whether there is a table filter. Who is not root may not read
// which tables there are, but whether the kernel has the module.
func (f legacy) inUse() bool {
	raw, err := os.ReadFile(f.names)
	if err == nil {
		return slices.Contains(strings.Fields(string(raw)), "filter")
	}
	if !errors.Is(err, os.ErrPermission) {
		return false
	}
	modules, err := os.ReadFile("/proc/modules")
	return err == nil && (bytes.HasPrefix(modules, []byte(f.module+" ")) || bytes.Contains(modules, []byte("\n"+f.module+" ")))
}

// read returns the table filter.
func (f legacy) read() (layout legacyLayout, raw []byte, err error) {
	fd, err := unix.Socket(f.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return layout, nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	head := make([]byte, binary.Size(layout))
	copy(head, "filter")
	if err := f.get(fd, legacyInfo, head); err != nil {
		return layout, nil, err
	}
	if _, err := binary.Decode(head, binary.NativeEndian, &layout); err != nil {
		return layout, nil, err
	}
	raw = make([]byte, legacyHead+int(layout.Size))
	copy(raw, "filter")
	binary.NativeEndian.PutUint32(raw[legacyName:], layout.Size)
	if err := f.get(fd, legacyEntries, raw); err != nil {
		return layout, nil, err
	}
	return layout, raw[legacyHead:], nil
}

// get is getsockopt(2) with a structure that tells what is asked for.
func (f legacy) get(fd, option int, structure []byte) error {
	length := uint32(len(structure))
	_, _, failure := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(f.level), uintptr(option),
		uintptr(unsafe.Pointer(&structure[0])), uintptr(unsafe.Pointer(&length)), 0) //nolint:gosec // the system call takes addresses
	if failure != 0 {
		return failure
	}
	return nil
}

// parse reads the entries of a table, as far as they are whole.
func (f legacy) parse(raw []byte) (rules []legacyRule) {
	u16 := func(at int) int { return int(binary.NativeEndian.Uint16(raw[at:])) }
	for at := 0; at+f.length <= len(raw); {
		target, next := u16(at+f.target), u16(at+f.target+2)
		if target < f.length || next < target+legacyName || at+next > len(raw) {
			return rules
		}
		r := legacyRule{at: at, in: text(raw[at+f.interfaces:][:16]), out: text(raw[at+f.interfaces+16:][:16])}
		r.target = text(raw[at+target+2:][:29])
		if r.target == "" && next >= target+legacyName+4 {
			r.verdict = int32(binary.NativeEndian.Uint32(raw[at+target+legacyName:]))
		}
		// Addresses, protocol and flags stand around the interfaces and their masks.
		asked := slices.Concat(raw[at:at+f.interfaces], raw[at+f.interfaces+64:at+f.target-4])
		r.bare = target == f.length && len(bytes.Trim(asked, "\x00")) == 0
		rules = append(rules, r)
		at += next
	}
	return rules
}

func text(raw []byte) string {
	before, _, _ := bytes.Cut(raw, []byte{0})
	return string(before)
}

// commands lists what lets the tunnel through the chains that drop.
func (f legacy) commands(layout legacyLayout, raw []byte, name string, carries bool) (list []string) {
	rules := f.parse(raw)
	within := func(r legacyRule, hook int) bool {
		return uint32(r.at) >= layout.Begin[hook] && uint32(r.at) <= layout.End[hook]
	}
	for _, way := range []struct {
		hook       int
		chain, key string
	}{{hookInput, "INPUT", "-i"}, {hookForward, "FORWARD", "-i"}, {hookForward, "FORWARD", "-o"}} {
		if way.hook == hookForward && !carries {
			continue
		}
		drops, passes := false, false
		for _, r := range rules {
			mine := within(r, way.hook)
			drops = drops || mine && r.bare && r.in+r.out == "" && (r.target == "" && r.verdict == legacyDrop || r.target == "REJECT")
			// A rule in a chain of the user's own may be reached from here.
			elsewhere := !mine && (within(r, hookInput) || within(r, hookForward))
			iface := r.in
			if way.key == "-o" {
				iface = r.out
			}
			passes = passes || !elsewhere && iface == name && r.target == "" && r.verdict == legacyAccept
		}
		if drops && !passes {
			list = append(list, fmt.Sprintf("%s -I %s %s %s -j ACCEPT", f.program, way.chain, way.key, name))
		}
	}
	return list
}
