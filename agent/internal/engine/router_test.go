package engine

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
)

// watchedPaths are paths whose state a test sets.
type watchedPaths struct {
	Paths
	status map[string]connectivity.Status
	woken  []string
}

func (p *watchedPaths) Status(peer string) (connectivity.Status, bool) {
	status, known := p.status[peer]
	return status, known
}

func (p *watchedPaths) Wake(peer string) { p.woken = append(p.woken, peer) }

func TestTrafficMovesToARouterThatAnswers(t *testing.T) {
	now := time.Unix(1e9, 0)
	idle := connectivity.Status{Path: connectivity.PathIdle}
	direct := connectivity.Status{Path: connectivity.PathDirect, Heard: now, Sent: now}
	paths := &watchedPaths{status: map[string]connectivity.Status{"p2": idle, "p3": idle}}
	r := &routers{paths: paths, now: func() time.Time { return now }}
	lead := func() *desired {
		m := newMap(t, 1, 1, 2, 3)
		m.Routes = m.Routes.With("r", used("r", "n", "10.1.0.0/16", 1))
		d := plan(&desired{}, m, "wt0")
		d.lead(r.pick, r.down)
		return d
	}
	d := lead()
	if got := d.destinations[0].router; got != "p2" || !d.watched["p2"] || !d.watched["p3"] || !d.paths.At("p3").Watched {
		t.Fatalf("%s carries the traffic, watched %v", got, d.watched)
	}
	if moved, next := r.look(d); moved || next != lookIdle || len(paths.woken) > 0 {
		t.Errorf("an idle router: moved %v, next look in %v, woken %v", moved, next, paths.woken)
	}
	paths.status["p2"] = direct
	if moved, next := r.look(d); moved || next != lookAwake || !slices.Equal(paths.woken, []string{"p3"}) {
		t.Errorf("a router at work: moved %v, next look in %v, woken %v", moved, next, paths.woken)
	}
	paths.status["p2"] = connectivity.Status{Path: connectivity.PathRelayed, Lost: true}
	if moved, _ := r.look(d); !moved {
		t.Fatal("traffic stays at a router that does not answer")
	}
	d = lead()
	if got := d.destinations[0].router; got != "p3" || !slices.Contains(d.allowedTo("m3"), netip.MustParsePrefix("10.1.0.0/16")) {
		t.Errorf("%s carries the traffic", got)
	}
	if moved, _ := r.look(d); moved {
		t.Error("it moves again")
	}
}
