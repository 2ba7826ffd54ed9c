package server

import "github.com/wattlenet/wattle/internal/exposition"

// Expose adds the counters to text. They name no account and no peer.
func (s *Server) Expose(text *exposition.Text) { s.Stats().expose(text) }

func (s Stats) expose(text *exposition.Text) {
	text.Family("wattle_relay_allocations", "gauge", "Allocations that exist now.").Add(float64(s.Allocations))
	text.Family("wattle_relay_allocations_made_total", "counter", "Allocations since the start.").Add(float64(s.AllocationsMade))
	refused := text.Family("wattle_relay_refused_total", "counter", "Requests that were refused.")
	refused.Add(float64(s.RefusedCredentials), "reason", "credential")
	refused.Add(float64(s.RefusedExpired), "reason", "expired")
	refused.Add(float64(s.RefusedPeers), "reason", "peer")
	for l := range limits {
		if l != peerBandwidth && l != accountBandwidth {
			refused.Add(float64(s.Beyond[l]), "reason", l.String())
		}
	}
	text.Family("wattle_relay_unanswered_strangers_total", "counter", "Requests without credential from addresses that had used up their answers.").
		Add(float64(s.UnansweredStrangers))
	text.Family("wattle_relay_refused_connections_total", "counter", "Connections that were closed at once, since too many had no allocation.").
		Add(float64(s.RefusedStrangers))
	packets := text.Family("wattle_relay_packets_total", "counter", "Packets of payload.")
	packets.Add(float64(s.PacketsToPeers), "direction", "to_peers")
	packets.Add(float64(s.PacketsFromPeers), "direction", "from_peers")
	bytes := text.Family("wattle_relay_bytes_total", "counter", "Bytes of payload.")
	bytes.Add(float64(s.BytesToPeers), "direction", "to_peers")
	bytes.Add(float64(s.BytesFromPeers), "direction", "from_peers")
	dropped := text.Family("wattle_relay_dropped_packets_total", "counter", "Packets that were not delivered.")
	dropped.Add(float64(s.DroppedPackets), "reason", "undeliverable")
	for _, l := range []limit{peerBandwidth, accountBandwidth} {
		dropped.Add(float64(s.Beyond[l]), "reason", l.String())
	}
}
