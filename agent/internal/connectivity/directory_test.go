package connectivity

import (
	"context"
	"fmt"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// A peer costs a pair only once there is something to say to it.
func TestPairsAreMadeWhenTheyMatter(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	crowd := table.Of(map[string]Peer{"b": {ID: "b", PublicKey: b.key.Public()}})
	for i := range 500 {
		id := fmt.Sprint("c", i)
		crowd = crowd.With(id, Peer{ID: id, PublicKey: tunnel.GenerateKey().Public()})
	}
	a.paths.SetPeers(crowd)
	pairs := func() (n int) {
		a.inLoop(func(context.Context) { n = len(a.paths.pairs) })
		return n
	}
	if n := pairs(); n != 0 {
		t.Errorf("%d pairs before the first packet", n)
	}
	if s, ok := a.paths.Status("c7"); !ok || s.Path != PathIdle {
		t.Errorf("status %+v, %v of a peer without a pair; want idle", s, ok)
	}
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	a.paths.HandleSignal("c7", []byte("made up"))
	a.paths.HandleSignal("nobody", []byte("made up"))
	if n := pairs(); n != 2 {
		t.Errorf("%d pairs, want those of b and of c7", n)
	}
	a.paths.SetPeers(table.Of(map[string]Peer{"b": crowd.At("b")}))
	if n := pairs(); n != 1 {
		t.Errorf("%d pairs, want the one of b: the other has left", n)
	}
	if _, ok := a.paths.Status("c7"); ok {
		t.Error("a peer that has left has a status")
	}
	a.ping(t, b)
}
