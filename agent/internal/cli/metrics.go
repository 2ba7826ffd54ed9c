package cli

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/exposition"
	"github.com/wattlenet/wattle/internal/program"
)

func newMetrics(a *app) *cobra.Command {
	var file string
	var perPeer bool
	command := &cobra.Command{
		Use:   "metrics",
		Short: "Print the agent's series for Prometheus",
		Long: "Print the agent's series in the text format of Prometheus, or write them for a textfile\n" +
			"collector, as a whole or not at all. The number of series does not grow with the network\n" +
			"unless --per-peer asks for some of each peer. They exist before enrolment, too.",
		Example: "wattle metrics --textfile /var/lib/prometheus/node-exporter/wattle.prom",
		Args:    program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.client().Status(command.Context())
			if err != nil {
				return exit(err)
			}
			if file == "" {
				return writeMetrics(command.OutOrStdout(), status, perPeer, time.Now())
			}
			return replaceFile(file, func(w io.Writer) error { return writeMetrics(w, status, perPeer, time.Now()) })
		},
	}
	command.Flags().StringVar(&file, "textfile", "", "file to write in place of printing")
	command.Flags().BoolVar(&perPeer, "per-peer", false, "series of each peer, by its name")
	return command
}

// replaceFile writes a file that others read at any moment.
func replaceFile(path string, fill func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".wattle-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	err = errors.Join(fill(file), file.Chmod(0o644), file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(file.Name(), path)
}

// What the series are split by. Every value is always there, so that a rule
// need not ask whether a series exists.
var (
	metricStates  = []string{local.StateNotEnrolled, local.StateDown, local.StateConnecting, local.StateReady, local.StateOffline}
	metricPaths   = []string{"direct", "relayed", "idle"}
	metricReasons = []string{
		"udp_blocked", "hard_nat_both", "no_answer", "peer_offline_signal", "policy_relay", "route_captured", "mtu", "checking", "relay_only_mode",
	}
	metricKeys = []string{local.PostQuantumActive, local.PostQuantumPending, "unavailable"}

	ageBounds = []float64{10, 60, 180, 600, 3600} // seconds
	rttBounds = []float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1}
)

func truth(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

func writeMetrics(w io.Writer, s local.Status, perPeer bool, now time.Time) error {
	text := &exposition.Text{}
	text.Family("wattle_agent_build_info", "gauge", "The version of the agent; always 1.").
		Add(1, "version", s.Version, "os", runtime.GOOS, "arch", runtime.GOARCH)
	states := text.Family("wattle_agent_state", "gauge", "1 for the state of the agent, 0 for the others.")
	for _, state := range metricStates {
		states.Add(truth(s.State == state), "state", state)
	}
	text.Family("wattle_agent_control_plane_connected", "gauge", "Whether the control plane is connected.").Add(truth(s.Management.Connected))
	text.Family("wattle_agent_clock_offset_seconds", "gauge", "What must be added to the clock of this machine.").Add(s.Management.ClockOffsetSeconds)
	text.Family("wattle_agent_map_serial", "counter", "The serial of the network map in force.").Add(float64(s.Map.Serial))
	text.Family("wattle_agent_warnings", "gauge", "Warnings in the status.").Add(float64(len(s.Warnings)))
	text.Family("wattle_agent_firewall_rules", "gauge", "Compiled rules in force.").Add(float64(s.Firewall.Rules))
	text.Family("wattle_agent_firewall_dropped_packets_total", "counter", "Packets that the agent has dropped itself; the kernel counts its own.").Add(float64(s.Firewall.Dropped))
	writeCounted(text, "matched", "that a rule let through or dropped", s.Firewall.Matched)
	writeCounted(text, "monitored", "that a rule matched which monitors", s.Firewall.Monitored)
	dropped := text.Family("wattle_agent_tunnel_dropped_total", "counter", "What the sockets of the tunnel did not deliver, by reason; a refused train went again, packet by packet.")
	for _, reason := range slices.Sorted(maps.Keys(s.Tunnel.Dropped)) {
		dropped.Add(float64(s.Tunnel.Dropped[reason]), "reason", reason)
	}
	text.Family("wattle_agent_relay_connected", "gauge", "Whether a relay is at hand, by the way to it.").
		Add(truth(s.Relay.Server != "" && s.Relay.Error == ""), "transport", dash(s.Relay.Transport))
	routes := text.Family("wattle_agent_routes", "gauge", "Destinations outside of the overlay, by role.")
	for _, role := range []string{"use", "serve"} {
		n := 0
		for _, r := range s.Routes {
			if r.Role == role {
				n++
			}
		}
		routes.Add(float64(n), "role", role)
	}
	peerMetrics(text, s.Peers, now)
	if perPeer {
		eachPeer(text, s.Peers)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// peerMetrics counts the peers; the number of series does not depend on theirs.
func peerMetrics(text *exposition.Text, peers []local.Peer, now time.Time) {
	paths, reasons, keys := map[string]int{}, map[string]int{}, map[string]int{}
	var received, sent uint64
	var ages, trips []float64
	candidates := 0
	for _, p := range peers {
		paths[p.Path]++
		if p.Reason != "" {
			reasons[p.Reason]++
		}
		keys[p.PostQuantum]++
		received, sent = received+p.ReceivedBytes, sent+p.SentBytes
		if p.LastHandshake != nil {
			ages = append(ages, now.Sub(*p.LastHandshake).Seconds())
		}
		if p.RTTMillis > 0 {
			trips = append(trips, p.RTTMillis/1000)
		}
		if p.Attempt != nil {
			candidates += len(p.Attempt.Remote)
		}
	}
	byPath := text.Family("wattle_agent_peers", "gauge", "Peers by path.")
	for _, path := range metricPaths {
		byPath.Add(float64(paths[path]), "path", path)
	}
	byReason := text.Family("wattle_agent_peers_not_direct", "gauge", "Peers that are not reached directly, by reason.")
	for _, reason := range metricReasons {
		byReason.Add(float64(reasons[reason]), "reason", reason)
	}
	byKeys := text.Family("wattle_agent_peers_post_quantum", "gauge", "Peers by whether sessions with them take a post-quantum key; none where this machine wants none.")
	for _, state := range metricKeys {
		byKeys.Add(float64(keys[state]), "state", state)
	}
	text.Family("wattle_agent_peer_candidates", "gauge", "Addresses that peers offered for the last attempts at direct paths.").Add(float64(candidates))
	below(text.Family("wattle_agent_peers_handshake_age", "gauge", "Peers whose last handshake is at most le seconds old."), ageBounds, ages)
	below(text.Family("wattle_agent_peers_round_trip", "gauge", "Peers whose round trip takes at most le seconds."), rttBounds, trips)
	text.Family("wattle_agent_received_bytes", "gauge", "Bytes received from the present peers, headers of WireGuard included.").Add(float64(received))
	text.Family("wattle_agent_sent_bytes", "gauge", "Bytes sent to the present peers, headers of WireGuard included.").Add(float64(sent))
}

// below counts the values up to each bound.
func below(f exposition.Family, bounds, values []float64) {
	for _, bound := range bounds {
		n := 0
		for _, value := range values {
			if value <= bound {
				n++
			}
		}
		f.Add(float64(n), "le", strconv.FormatFloat(bound, 'g', -1, 64))
	}
	f.Add(float64(len(values)), "le", "+Inf")
}

// eachPeer writes series by name of the peer.
func eachPeer(text *exposition.Text, peers []local.Peer) {
	direct := text.Family("wattle_agent_peer_direct", "gauge", "Whether the path to the peer is direct; absent while it is idle.")
	for _, p := range peers {
		if p.Path != "idle" {
			direct.Add(truth(p.Path == "direct"), "peer", p.Name)
		}
	}
	trip := text.Family("wattle_agent_peer_round_trip_seconds", "gauge", "The last round trip that was measured.")
	for _, p := range peers {
		if p.RTTMillis > 0 {
			trip.Add(p.RTTMillis/1000, "peer", p.Name)
		}
	}
	shake := text.Family("wattle_agent_peer_last_handshake_seconds", "gauge", "The time of the last handshake, in seconds since 1970.")
	for _, p := range peers {
		if p.LastHandshake != nil {
			shake.Add(float64(p.LastHandshake.Unix()), "peer", p.Name)
		}
	}
	received := text.Family("wattle_agent_peer_received_bytes_total", "counter", "Bytes received from the peer.")
	for _, p := range peers {
		received.Add(float64(p.ReceivedBytes), "peer", p.Name)
	}
	sent := text.Family("wattle_agent_peer_sent_bytes_total", "counter", "Bytes sent to the peer.")
	for _, p := range peers {
		sent.Add(float64(p.SentBytes), "peer", p.Name)
	}
}

// rulesMeasured bounds the series of rules; what others have matched is one more.
const rulesMeasured = 100

// writeCounted writes what rules have matched.
func writeCounted(text *exposition.Text, name, what string, counted []local.Counted) {
	about := what + ", by the opaque id of the rule; of the 100 first ids, and the rest as others."
	packets := text.Family("wattle_agent_"+name+"_packets_total", "counter", "Packets "+about)
	for rule, met := range bounded(counted) {
		packets.Add(float64(met.Packets), "rule", rule)
	}
	bytes := text.Family("wattle_agent_"+name+"_bytes_total", "counter", "Bytes of the packets "+about)
	for rule, met := range bounded(counted) {
		bytes.Add(float64(met.Bytes), "rule", rule)
	}
}

// bounded yields the first of a list, and the rest as one.
func bounded(counted []local.Counted) iter.Seq2[string, local.Counted] {
	return func(yield func(string, local.Counted) bool) {
		var others local.Counted
		for i, met := range counted {
			if i >= rulesMeasured {
				others.Packets += met.Packets
				others.Bytes += met.Bytes
				continue
			}
			if !yield(met.Rule, met) {
				return
			}
		}
		if len(counted) > rulesMeasured {
			yield("others", others)
		}
	}
}
