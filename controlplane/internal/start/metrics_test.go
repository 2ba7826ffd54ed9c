package start

import (
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/session"
	"github.com/wattlenet/wattle/internal/exposition"
)

func TestStreamsAreExposed(t *testing.T) {
	var text exposition.Text
	exposeStreams(&text, session.Stats{Connected: 1, Opened: 2, Replaced: 3, Lagged: 4, Resumed: 5, Snapshots: 6, Deltas: 7, Signals: 8})
	for _, line := range []string{
		"wattle_server_agents_connected 1", "wattle_server_streams_opened_total 2", "wattle_server_streams_replaced_total 3",
		"wattle_server_streams_lagged_total 4", "wattle_server_maps_resumed_total 5", "wattle_server_maps_sent_total 6",
		"wattle_server_deltas_sent_total 7", "wattle_server_signals_sent_total 8",
	} {
		if !strings.Contains(text.String(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, &text)
		}
	}
}
