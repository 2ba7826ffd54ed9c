package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// untilDirectCount bounds --until-direct where -n does not.
const untilDirectCount = 60

func newPing(a *app) *cobra.Command {
	var count int
	var interval, timeout time.Duration
	var untilDirect, asJSON, path bool
	command := &cobra.Command{
		Use:   "ping PEER",
		Short: "Ping a peer through the tunnel and name the path",
		Long: "Ping a peer by name or overlay address. Each line names the path of the answer, and\n" +
			"why it is not direct. Exit code 5 when nothing answered, 6 when no rule allows it.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			if count < 0 {
				return program.Usage("-n %d is negative; 0 pings until interrupted", count)
			}
			if untilDirect && !command.Flags().Changed("count") {
				count = untilDirectCount
			}
			t := tally{out: command.OutOrStdout(), json: asJSON, peer: args[0]}
			err := a.client().Ping(command.Context(), local.PingRequest{
				Peer: args[0], Count: count, UntilDirect: untilDirect,
				IntervalMillis: millis(interval), TimeoutMillis: millis(timeout),
			}, t.add)
			if command.Context().Err() == nil && err != nil {
				return exit(err)
			}
			end := t.end(untilDirect)
			if !path || command.Context().Err() != nil {
				return end
			}
			if err := a.showPath(command, t, asJSON); err != nil {
				return err
			}
			return end
		},
	}
	command.ValidArgsFunction = a.completeOne
	flags := command.Flags()
	flags.IntVarP(&count, "count", "n", 4, "number of requests; 0 pings until interrupted")
	program.DurationFlag(flags, &interval, "interval", time.Second, time.Millisecond, "time between two requests")
	program.DurationFlag(flags, &timeout, "timeout", 3*time.Second, time.Millisecond, "how long to wait for an answer")
	flags.BoolVar(&path, "path", false, "tell at the end what was tried for a direct path")
	flags.BoolVar(&untilDirect, "until-direct", false, "stop when an answer came on a direct path")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object a line, the last one a summary")
	return command
}

// pingPath is a line of `wattle ping --path --json`, after the summary.
type pingPath struct {
	Schema string     `json:"schema"`
	Path   local.Peer `json:"path"`
}

// showPath prints how packets reach the peer that was pinged.
func (a *app) showPath(command *cobra.Command, t tally, asJSON bool) error {
	status, err := a.client().Status(command.Context())
	if err != nil {
		return exit(err)
	}
	at := slices.IndexFunc(status.Peers, func(p local.Peer) bool { return p.Name == t.name })
	switch {
	case at < 0:
		return nil // it has left the network meanwhile
	case asJSON:
		return json.NewEncoder(t.out).Encode(pingPath{Schema: "wattle.path/v1", Path: status.Peers[at]})
	}
	return printPath(t.out, status.Peers[at])
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// tally prints replies and counts them.
type tally struct {
	out  io.Writer
	json bool
	peer string // as it was asked for
	name string // as the network calls it

	sent, received   int
	least, most, sum float64
	denied           bool
	path             string
	reason           string // printed last
}

// pingSummary is the last line of `wattle ping --json`.
type pingSummary struct {
	Schema   string  `json:"schema"`
	Peer     string  `json:"peer"`
	Sent     int     `json:"sent"`
	Received int     `json:"received"`
	MinMs    float64 `json:"min_ms"`
	AvgMs    float64 `json:"avg_ms"`
	MaxMs    float64 `json:"max_ms"`
	Path     string  `json:"path"`
}

func (t *tally) add(reply local.PingReply) error {
	t.sent++
	t.path, t.name = reply.Path, reply.Peer
	t.denied = t.denied || reply.Denied
	if reply.Error == "" {
		t.received++
		t.sum += reply.RTTMillis
		t.most = max(t.most, reply.RTTMillis)
		if t.received == 1 || reply.RTTMillis < t.least {
			t.least = reply.RTTMillis
		}
	}
	if t.json {
		return json.NewEncoder(t.out).Encode(reply)
	}
	if reply.Error != "" {
		_, err := fmt.Fprintf(t.out, "%s (%s): seq=%d %s%s\n", reply.Peer, reply.Address, reply.Sequence, reply.Error, keyless(reply))
		return err
	}
	_, err := fmt.Fprintf(t.out, "%s (%s): seq=%d %s time=%.2f ms%s\n",
		reply.Peer, reply.Address, reply.Sequence, way(reply), reply.RTTMillis, t.why(reply))
	return err
}

// keyless says that there is no answer for want of a post-quantum key.
func keyless(reply local.PingReply) string {
	if reply.PostQuantum == "" {
		return ""
	}
	return "; nothing flows without a post-quantum key" + prefixed(": ", quantumText(reply.PostQuantumReason))
}

func way(reply local.PingReply) string { return reply.Path + prefixed(" via ", reply.Remote) }

// why tells the reason for the relay, once until it changes.
func (t *tally) why(reply local.PingReply) string {
	if reply.Reason == t.reason {
		return ""
	}
	t.reason = reply.Reason
	return prefixed("; ", reasonText(reply.Reason))
}

func lost(sent, received int) int {
	if sent == 0 {
		return 0
	}
	return 100 * (sent - received) / sent
}

// end prints the summary and decides the exit code.
func (t *tally) end(wantDirect bool) error {
	average := 0.0
	if t.received > 0 {
		average = t.sum / float64(t.received)
	}
	if t.json {
		err := json.NewEncoder(t.out).Encode(pingSummary{
			Schema: "wattle.ping/v1", Peer: t.peer, Sent: t.sent, Received: t.received,
			MinMs: t.least, AvgMs: average, MaxMs: t.most, Path: t.path,
		})
		if err != nil {
			return err
		}
	} else {
		times := ""
		if t.received > 0 {
			times = fmt.Sprintf("; min/avg/max %.2f/%.2f/%.2f ms", t.least, average, t.most)
		}
		if _, err := fmt.Fprintf(t.out, "%d sent, %d received, %d%% lost%s\n", t.sent, t.received, lost(t.sent, t.received), times); err != nil {
			return err
		}
	}
	switch {
	case t.received == 0 && t.denied:
		return program.Exit(program.ExitDenied, "no rule lets this machine ping %s; a policy must allow it", t.peer)
	case t.received == 0:
		return program.Exit(program.ExitTimedOut, "%s does not answer: it may be off, or its own rules refuse the ping; `wattle status --detail` shows the path", t.peer)
	case wantDirect && t.path != "direct":
		return program.Exit(program.ExitTimedOut, "%s answers, but not on a direct path", t.peer)
	}
	return nil
}
