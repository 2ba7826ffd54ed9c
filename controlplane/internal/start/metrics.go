package start

import (
	"github.com/wattlenet/wattle/controlplane/internal/session"
	"github.com/wattlenet/wattle/internal/exposition"
)

// exposeStreams adds what sessions count to text.
func exposeStreams(text *exposition.Text, s session.Stats) {
	for _, one := range []struct {
		name, kind, help string
		value            int64
	}{
		{"wattle_server_agents_connected", "gauge", "Agents that have a stream now.", int64(s.Connected)},
		{"wattle_server_streams_opened_total", "counter", "Streams of agents that began.", s.Opened},
		{"wattle_server_streams_replaced_total", "counter", "Streams that ended because their agent began another.", s.Replaced},
		{"wattle_server_streams_lagged_total", "counter", "Streams that ended because their agent read too slowly.", s.Lagged},
		{"wattle_server_maps_resumed_total", "counter", "Streams whose agent went on with the map that it had.", s.Resumed},
		{"wattle_server_maps_sent_total", "counter", "Maps that were sent whole.", s.Snapshots},
		{"wattle_server_deltas_sent_total", "counter", "Changes of maps that were sent.", s.Deltas},
		{"wattle_server_signals_sent_total", "counter", "Messages of other agents that were sent.", s.Signals},
	} {
		text.Family(one.name, one.kind, one.help).Add(float64(one.value))
	}
}
