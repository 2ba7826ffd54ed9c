package system

import (
	"net/netip"
	"slices"
	"strings"
)

// mark begins the first line of a resolv.conf that is ours; the name of the
// interface follows.
const mark = "# Written by wattle for "

// maxFile bounds how much of a resolv.conf is read, in bytes.
const maxFile = 64 << 10

// A resolvFile is what resolv.conf(5) says.
type resolvFile struct {
	servers []netip.Addr
	search  []string
	options []string

	// ours is the interface of the agent that wrote the file, empty for others.
	ours string

	// title is the first comment, by which others often sign.
	title string
}

// parseFile reads a resolv.conf. What is not understood is left out, as the C
// library does.
func parseFile(text string) resolvFile {
	var f resolvFile
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			if f.title == "" {
				f.title = strings.TrimSpace(strings.TrimLeft(line, "#; "))
			}
			if rest, found := strings.CutPrefix(line, mark); found {
				f.ours, _, _ = strings.Cut(rest, ";")
			}
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(fields[1]); err == nil && !slices.Contains(f.servers, addr) {
				f.servers = append(f.servers, addr)
			}
		case "search", "domain": // the last one counts
			f.search = fields[1:]
		case "options":
			f.options = append(f.options, fields[1:]...)
		}
	}
	return f
}

// former is what a machine asks that has this file.
func (f resolvFile) former() Former {
	former := Former{Search: f.search}
	for _, addr := range f.servers {
		former.Servers = append(former.Servers, netip.AddrPortFrom(addr, 53))
	}
	return former
}

// renderFile writes the resolv.conf of c for a machine whose own file is before.
func renderFile(c Config, before resolvFile) string {
	var text strings.Builder
	text.WriteString(mark + c.Interface + "; what was here comes back when it disconnects.\n")
	text.WriteString("# Changes made here are lost. To keep wattle out of this file, start its daemon with --dns off.\n")
	for _, server := range c.Servers {
		text.WriteString("nameserver " + server.Addr().String() + "\n")
	}
	search := slices.Clone(c.Search)
	for _, domain := range before.search {
		if !slices.Contains(search, domain) {
			search = append(search, domain)
		}
	}
	if len(search) > 0 {
		text.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(before.options) > 0 {
		text.WriteString("options " + strings.Join(before.options, " ") + "\n")
	}
	return text.String()
}
