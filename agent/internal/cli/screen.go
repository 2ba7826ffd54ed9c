package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
)

// manyPeers is how many peers are listed before the idle ones are left out:
// what fits a screen.
const manyPeers = 30

// screen prints a status for people.
type screen struct {
	now     time.Time
	detail  bool
	colours palette
}

func (s screen) print(w io.Writer, status local.Status) error {
	if err := s.printMachine(w, status); err != nil {
		return err
	}
	return s.printPeers(w, status.Peers)
}

// printMachine writes one fact a line.
func (s screen) printMachine(w io.Writer, status local.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	row("state", "%s", s.colours.paint(stateColour(status.State), stateText(status.State)))
	if name := cmp.Or(status.FQDN, status.Name); name != "" {
		row("name", "%s", name)
	}
	if len(status.Addresses) > 0 {
		row("addresses", "%s", strings.Join(status.Addresses, ", "))
	}
	if status.Management.URL != "" && status.State != local.StateNotEnrolled {
		s.managementRows(row, status)
	}
	if s.detail {
		detailRows(row, status)
	}
	for _, warning := range status.Warnings {
		row("warning", "%s", s.colours.paint(yellow, warning))
	}
	if status.State == local.StateNotEnrolled {
		row("next", "wattle up --management-url https://HOST:8443 --ca-pin PIN --setup-key-file FILE")
	}
	return table.Flush()
}

func stateText(state string) string {
	switch state {
	case local.StateNotEnrolled:
		return "not enrolled: this machine belongs to no network"
	case local.StateDown:
		return "down; `wattle up` connects it again"
	case local.StateOffline:
		return "offline: working with the last network map"
	}
	return strings.ReplaceAll(state, "_", " ")
}

func stateColour(state string) string {
	switch state {
	case local.StateReady:
		return green
	case local.StateNotEnrolled, local.StateDown:
		return red
	}
	return yellow
}

func (s screen) managementRows(row func(name, format string, args ...any), status local.Status) {
	m := status.Management
	switch {
	case m.Connected && m.Since != nil:
		row("control plane", "%s, connected for %s", m.URL, span(s.now.Sub(*m.Since)))
	case m.Connected:
		row("control plane", "%s, connected", m.URL)
	case m.Since != nil:
		row("control plane", "%s, away for %s", m.URL, span(s.now.Sub(*m.Since)))
	default:
		row("control plane", "%s, not connected", m.URL)
	}
	if m.Error != "" {
		row("", "%s", m.Error)
	}
}

func detailRows(row func(name, format string, args ...any), status local.Status) {
	if status.PeerID != "" {
		row("peer", "%s of account %s", status.PeerID, status.AccountID)
		row("public key", "%s", status.PublicKey)
	}
	if status.PostQuantum != "" {
		row("post-quantum", "%s", status.PostQuantum)
	}
	if status.Map.Epoch != "" {
		row("map", "serial %d of %s, digest %.12s", status.Map.Serial, status.Map.Epoch, status.Map.Digest)
	}
	if status.Tunnel.Mode != "" {
		hostRows(row, status)
	}
	row("version", "%s, server %s", status.Version, cmp.Or(status.Management.Server, "unknown"))
}

func hostRows(row func(name, format string, args ...any), status local.Status) {
	device := status.Tunnel.Mode
	if status.Tunnel.Interface != "" {
		device += " " + status.Tunnel.Interface
	}
	row("tunnel", "%s, UDP port %d", device, status.Tunnel.ListenPort)
	if status.Tunnel.Reason != "" {
		row("", "because: %s", status.Tunnel.Reason)
	}
	enforced := status.Firewall.Kind + ", " + count(status.Firewall.Rules, "rule")
	if status.Firewall.Dropped > 0 {
		enforced += ", " + count(status.Firewall.Dropped, "packet") + " dropped"
	}
	row("firewall", "%s", enforced)
	ruleRows(row, status.Firewall)
	row("names", "%s at %s", status.DNS.Domain, cmp.Or(strings.Join(status.DNS.Addresses, ", "), "no address"))
	networkRows(row, status.Network)
	switch {
	case status.Relay.Server != "":
		r := status.Relay
		row("relay", "%s%s over %s%s", r.Server, prefixed(" in ", r.Region), r.Transport, prefixed(", sees this machine as ", r.Mapped))
	default:
		row("relay", "none%s", prefixed(": ", status.Relay.Error))
	}
	forwardRows(row, status.Forwards)
}

// rulesShown bounds the rules that judge in the rows; JSON has all.
const rulesShown = 10

// ruleRows tell what rules have matched, first those that judge and have most.
func ruleRows(row func(name, format string, args ...any), f local.Firewall) {
	used := slices.DeleteFunc(slices.Clone(f.Matched), func(met local.Counted) bool { return met.Packets == 0 })
	slices.SortStableFunc(used, func(a, b local.Counted) int { return cmp.Compare(b.Packets, a.Packets) })
	for _, met := range used[:min(len(used), rulesShown)] {
		also := ""
		if met.Also > 0 {
			also = fmt.Sprintf(" and %d like it", met.Also)
		}
		row("", "rule %s%s matched: %s, %s", met.Rule, also, count(met.Packets, "packet"), count(met.Bytes, "byte"))
	}
	if more := len(used) - rulesShown; more > 0 {
		row("", "%s more matched as well; --json lists them", count(more, "rule"))
	}
	for _, met := range f.Monitored {
		row("", "rule %s monitors: %s, %s", met.Rule, count(met.Packets, "packet"), count(met.Bytes, "byte"))
	}
}

// networkRows say how datagrams leave the network of this machine.
func networkRows(row func(name, format string, args ...any), network local.Network) {
	if network.Access != "" {
		row("network", "%s%s", accessText(network.Access), prefixed("; seen as ", strings.Join(network.Mapped, " and ")))
	}
	if g := network.Gateway; g.Protocol != "" {
		row("gateway", "%s leads to this machine: %s forwards it (%s)", g.External, g.Address, g.Protocol)
	}
}

// accessText says in a sentence what a NAT does to a direct path.
func accessText(access string) string {
	switch access {
	case "open":
		return "no NAT"
	case "easy":
		return "behind a NAT with one mapping for all destinations"
	case "hard":
		return "behind a NAT that maps by destination"
	case "blocked":
		return "no UDP passes"
	}
	return access
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// printPeers writes a line for each peer, those with a path first.
func (s screen) printPeers(w io.Writer, peers []local.Peer) error {
	if len(peers) == 0 {
		return nil
	}
	listed := slices.SortedStableFunc(slices.Values(peers), func(a, b local.Peer) int { return cmp.Compare(rank(a), rank(b)) })
	if idle := slices.IndexFunc(listed, func(p local.Peer) bool { return p.Path == "idle" }); idle >= 0 && len(listed) > manyPeers && !s.detail {
		listed = listed[:idle]
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if len(listed) > 0 {
		if err := s.printTable(w, listed); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, totals(peers, len(listed)))
	if err != nil || !s.detail {
		return err
	}
	for _, p := range listed {
		if p.LastError != "" || p.RelayError != "" || p.Attempt != nil || p.PostQuantumReason != "" && p.Path != "idle" {
			if err := printPath(w, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func rank(p local.Peer) int {
	if p.Path == "idle" {
		return 1
	}
	return 0
}

func (s screen) printTable(w io.Writer, peers []local.Peer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	why := slices.ContainsFunc(peers, func(p local.Peer) bool { return p.Reason != "" })
	header := []string{"PEER", "ADDRESS", "PATH", "VIA", "RTT", "HANDSHAKE", "RECEIVED", "SENT"}
	if why {
		header = append(header, "WHY NOT DIRECT")
	}
	_, _ = fmt.Fprintln(table, strings.Join(header, "\t")) // Flush tells
	for _, p := range peers {
		line := []string{
			p.Name, dash(first(p.Addresses)), p.Path, dash(via(p)), rtt(p.RTTMillis), s.age(p.LastHandshake), size(p.ReceivedBytes), size(p.SentBytes),
		}
		if why {
			line = append(line, reasonText(p.Reason))
		}
		_, _ = fmt.Fprintln(table, strings.TrimRight(strings.Join(line, "\t"), "\t"))
	}
	return table.Flush()
}

// totals counts the peers by path.
func totals(peers []local.Peer, listed int) string {
	counts := map[string]int{}
	for _, p := range peers {
		counts[p.Path]++
	}
	parts := []string{}
	for _, path := range []string{"direct", "relayed", "idle"} {
		if counts[path] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[path], path))
		}
	}
	text := count(len(peers), "peer") + ": " + strings.Join(parts, ", ")
	if listed < len(peers) {
		text += "; --detail lists the idle ones too"
	}
	return text
}

func count[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func dash(text string) string { return cmp.Or(text, "-") }

// via is what stands between this machine and the peer.
func via(p local.Peer) string {
	if p.Path == "relayed" {
		return p.Relay
	}
	return p.Remote
}

// reasonText says why packets take the relay.
func reasonText(reason string) string {
	switch reason {
	case "udp_blocked":
		return "UDP is blocked at one end"
	case "hard_nat_both":
		return "both NATs map by destination"
	case "no_answer":
		return "no address of the peer answers from here"
	case "peer_offline_signal":
		return "the peer answers no offer"
	case "policy_relay":
		return "the peer takes no direct path"
	case "route_captured":
		return "a route leads the peer's address into the tunnel"
	case "mtu":
		return "the other path carries no full packet"
	case "checking":
		return "looking for a shorter path"
	case "relay_only_mode":
		return "relay only, as configured"
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// quantumText says why the session with a peer takes no post-quantum key.
func quantumText(reason string) string {
	switch reason {
	case "peer_too_old":
		return "the agent of the peer knows no such keys; update it"
	case "peer_cannot":
		return "the agent of the peer knows no kind of them that this one knows; update the older of the two"
	case "peer_off":
		return "the peer does not want any: its settings say so, or it has not heard of the account's yet"
	case "no_answer":
		return "the peer has not answered yet"
	case "not_begun":
		return "it is agreed on with the first packets"
	case "under_way":
		return "the two machines are agreeing on it"
	case local.PostQuantumNextSession:
		return "agreed on, for the next session"
	}
	return strings.ReplaceAll(reason, "_", " ")
}

func rtt(millis float64) string {
	if millis == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", millis)
}

func (s screen) age(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return span(s.now.Sub(*t)) + " ago"
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func size(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
