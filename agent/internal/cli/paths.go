package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/wattlenet/wattle/agent/internal/local"
)

// printPath tells how packets reach a peer, and what was tried for a direct path.
func printPath(w io.Writer, p local.Peer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	way := p.Path + prefixed(" via ", via(p))
	if p.RTTMillis != 0 {
		way += ", round trip " + rtt(p.RTTMillis)
	}
	if p.MTU != 0 {
		way += fmt.Sprintf(", mtu %d", p.MTU)
	}
	_, _ = fmt.Fprintf(table, "%s: %s%s\n", p.Name, way, prefixed("; ", reasonText(p.Reason)))
	if p.PostQuantum != "" {
		row("post-quantum", "%s%s", p.PostQuantum, prefixed(": ", quantumText(p.PostQuantumReason)))
	}
	if p.LastError != "" {
		row("direct failed", "%s", p.LastError)
	}
	if p.RelayError != "" {
		row("relay failed", "%s", p.RelayError)
	}
	if a := p.Attempt; a != nil {
		row("offered", "%s", candidates(a.Local))
		row("peer's", "%s", candidates(a.Remote))
		if a.TookMillis == 0 {
			row("checks", "under way")
		}
		for _, c := range a.Checks {
			row("check", "%s -> %s\t%s", c.Local, c.Remote, checkText(c))
		}
	}
	return table.Flush()
}

func checkText(c local.Check) string {
	if c.Chosen {
		return c.State + ", chosen"
	}
	return strings.ReplaceAll(c.State, "-", " ")
}

// candidates lists addresses by kind: "host A, B; reflexive C".
func candidates(list []local.Candidate) string {
	var kinds []string
	byKind := map[string][]string{}
	for _, c := range list {
		if !slices.Contains(kinds, c.Kind) {
			kinds = append(kinds, c.Kind)
		}
		byKind[c.Kind] = append(byKind[c.Kind], c.Address)
	}
	parts := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		parts = append(parts, kind+" "+strings.Join(byKind[kind], ", "))
	}
	return dash(strings.Join(parts, "; "))
}
