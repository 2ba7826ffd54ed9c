package server

import (
	"fmt"
	"net/http"
	"strings"
)

// A metric is one line of the counters, as Prometheus names it.
type metric struct {
	name, labels, kind, help string
	value                    float64
}

// metrics lists the counters; those of one name stand together.
func (s Stats) metrics() []metric {
	const refused, dropped = "wattle_relay_refused_total", "wattle_relay_dropped_packets_total"
	beyond := func(name string, l limit) metric {
		return metric{name, fmt.Sprintf("reason=%q", l), "counter", "", float64(s.Beyond[l])}
	}
	list := []metric{
		{"wattle_relay_allocations", "", "gauge", "Allocations that exist now.", float64(s.Allocations)},
		{"wattle_relay_allocations_made_total", "", "counter", "Allocations since the start.", float64(s.AllocationsMade)},
		{refused, `reason="credential"`, "counter", "Requests that were refused.", float64(s.RefusedCredentials)},
		{refused, `reason="expired"`, "counter", "", float64(s.RefusedExpired)},
		{refused, `reason="peer"`, "counter", "", float64(s.RefusedPeers)},
	}
	for l := range limits {
		if l != peerBandwidth && l != accountBandwidth {
			list = append(list, beyond(refused, l))
		}
	}
	return append(list, []metric{
		{"wattle_relay_unanswered_strangers_total", "", "counter", "Requests without credential from addresses that had used up their answers.", float64(s.UnansweredStrangers)},
		{"wattle_relay_refused_connections_total", "", "counter", "Connections that were closed at once, since too many had no allocation.", float64(s.RefusedStrangers)},
		{"wattle_relay_packets_total", `direction="to_peers"`, "counter", "Packets of payload.", float64(s.PacketsToPeers)},
		{"wattle_relay_packets_total", `direction="from_peers"`, "counter", "", float64(s.PacketsFromPeers)},
		{"wattle_relay_bytes_total", `direction="to_peers"`, "counter", "Bytes of payload.", float64(s.BytesToPeers)},
		{"wattle_relay_bytes_total", `direction="from_peers"`, "counter", "", float64(s.BytesFromPeers)},
		{dropped, `reason="undeliverable"`, "counter", "Packets that were not delivered.", float64(s.DroppedPackets)},
		beyond(dropped, peerBandwidth), beyond(dropped, accountBandwidth),
	}...)
}

// Metrics serves the counters in the text format of Prometheus. They name no
// account and no peer.
func (s *Server) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var text strings.Builder
		for _, m := range s.Stats().metrics() {
			if m.help != "" {
				fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
			}
			labels := m.labels
			if labels != "" {
				labels = "{" + labels + "}"
			}
			fmt.Fprintf(&text, "%s%s %g\n", m.name, labels, m.value)
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte(text.String())) // the reader has gone
	})
}
