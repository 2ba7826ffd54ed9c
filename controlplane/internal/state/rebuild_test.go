package state

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
)

// TestRefusedChangeRebuildsTheMap empties the network map behind the back of state, so that it refuses the next change.
func TestRefusedChangeRebuildsTheMap(t *testing.T) {
	f := fresh(t)
	a, b := f.enroll("a"), f.enroll("b")
	f.group("web", a.Id)
	account := f.accounts[f.owner.AccountID]
	if _, err := account.engine.Rebuild(account.engine.Serial(), nil); err != nil {
		t.Fatal(err)
	}
	var heard []string
	revokes := false
	cancel := must(f.Subscribe(f.owner.AccountID, func(u *netmap.Update) {
		heard, revokes = slices.Collect(u.Peers()), u.Revokes
	}))(t)
	defer cancel()
	c := f.enroll("c")
	if diff := cmp.Diff(f.reloaded(), look(t, f.State, f.owner.AccountID)); diff != "" {
		t.Fatalf("reload (-) and memory (+) differ:\n%s", diff)
	}
	for _, id := range []string{a.Id, b.Id, c.Id} {
		if !slices.Contains(heard, id) {
			t.Errorf("%s of %v was not told of the new map", id, heard)
		}
	}
	if !revokes {
		t.Error("agents wait for a window before they hear of a map that may take access away")
	}
	if account.engine.Serial() != account.row.Serial {
		t.Error("the map is of serial", account.engine.Serial(), "and memory of", account.row.Serial)
	}
}

// TestRebuildIsTriedAgain breaks memory as well: the map stays behind until both are sound.
func TestRebuildIsTriedAgain(t *testing.T) {
	f := fresh(t)
	f.enroll("a")
	account := f.accounts[f.owner.AccountID]
	if _, err := account.engine.Rebuild(account.engine.Serial(), nil); err != nil {
		t.Fatal(err)
	}
	sound := account.row.Network
	account.row.Network = "nonsense"
	_, update := account.whole()
	if update == nil {
		t.Fatal("nonsense is a network")
	}
	if f.rebuild(account) != nil || !account.behind {
		t.Fatal("the map was rebuilt from nonsense")
	}
	account.row.Network = sound
	f.enroll("b")
	if account.behind {
		t.Fatal("the map is still behind")
	}
	if diff := cmp.Diff(f.reloaded(), look(t, f.State, f.owner.AccountID)); diff != "" {
		t.Fatalf("reload (-) and memory (+) differ:\n%s", diff)
	}
}

func TestMarksForgetByAge(t *testing.T) {
	var m marks
	start := now()
	for i, want := range []int64{0, 0, 0, 100, 101, 102} {
		at := start.Add(time.Duration(i) * time.Hour)
		if got := m.add(at, 100+int64(i), 3*time.Hour); got != want {
			t.Errorf("after %d hours serial %d is old, want %d", i, got, want)
		}
	}
	if len(m) != 3 {
		t.Errorf("%d marks are kept", len(m))
	}
	if got := m.add(start.Add(100*time.Hour), 200, 3*time.Hour); got != 105 {
		t.Error("after a pause the old serial is", got)
	}
}

func TestForgetReachesTheMap(t *testing.T) {
	f := fresh(t)
	a := f.enroll("a")
	account := f.accounts[f.owner.AccountID]
	before := account.engine.Serial()
	f.forget(now())
	f.enroll("b")
	f.forget(now().Add(ipam.Quarantine - trimInterval))
	if _, err := account.engine.Deltas(a.Id, before-1); err == nil {
		t.Error("what happened a day ago is still in the logs")
	}
	if d, err := account.engine.Deltas(a.Id, before); err != nil || d.Empty() {
		t.Error("what happened later is not:", d.Ops(), err)
	}
}
