package state

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/generated/api"
)

// A plan of Terraform tries one change after the other on one copy of the account.
// Each must be told what a fresh copy would tell, whatever was tried before.
func TestTrialsOnOneCopy(t *testing.T) {
	f, web, db, peers := closed(t)
	ctx := t.Context()
	kept := must(f.CreatePolicy(ctx, f.owner, toDatabase("kept", "5432")))(t)
	lan := must(f.CreateNetwork(ctx, f.owner, api.NetworkRequest{Name: "lan"}))(t)
	printer := must(f.CreateNetworkResource(ctx, f.owner, lan.Id, api.NetworkResourceRequest{Name: "printer", Address: "10.0.0.5", Groups: &[]string{"db"}}))(t)
	router := api.NetworkRouterRequest{Peer: nullable.NewNullableWithValue(peers["db-1"].Id)}
	leads := must(f.CreateNetworkRouter(ctx, f.owner, lan.Id, router))(t)
	spare := f.group("spare", peers["db-1"].Id)
	second := func(_ any, err error) error { return err }
	trials := []struct {
		what string
		try  func(ctx context.Context) error
		once bool // the copy cannot be used again
	}{
		{"create a policy", func(ctx context.Context) error { return second(f.CreatePolicy(ctx, f.owner, toDatabase("new", "22"))) }, false},
		{"change a policy", func(ctx context.Context) error {
			return second(f.UpdatePolicy(ctx, f.owner, kept.Id, toDatabase("kept", "1"), ""))
		}, false},
		{"delete a policy", func(ctx context.Context) error { return f.DeletePolicy(ctx, f.owner, kept.Id, "") }, false},
		{"create a group", func(ctx context.Context) error {
			return second(f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "new", Peers: ids(peers["web-1"].Id)}))
		}, false},
		{"change members", func(ctx context.Context) error {
			return second(f.UpdateGroup(ctx, f.owner, db.Id, api.GroupRequest{Name: "other", Peers: ids(peers["web-2"].Id)}, ""))
		}, false},
		{"add a member", func(ctx context.Context) error {
			return second(f.CreateGroupMembership(ctx, f.owner, db.Id, api.GroupMembershipRequest{PeerId: peers["web-1"].Id}))
		}, false},
		{"remove a member", func(ctx context.Context) error {
			return f.DeleteGroupMembership(ctx, f.owner, web.Id, peers["web-1"].Id, "")
		}, false},
		{"delete a group", func(ctx context.Context) error { return f.DeleteGroup(ctx, f.owner, spare.Id, "") }, true},
		{"delete a router", func(ctx context.Context) error {
			return f.DeleteNetworkRouter(ctx, f.owner, lan.Id, leads.Id, "")
		}, false},
		{"move a resource", func(ctx context.Context) error {
			return second(f.UpdateNetworkResource(ctx, f.owner, lan.Id, printer.Id, api.NetworkResourceRequest{Name: "printer", Address: "10.0.0.6", Groups: &[]string{"web"}}, ""))
		}, false},
		{"delete a network", func(ctx context.Context) error { return f.DeleteNetwork(ctx, f.owner, lan.Id, "") }, false},
	}
	a := must(f.account(f.owner.AccountID))(t)
	alone := make([]api.AccessPreview, len(trials))
	for i, trial := range trials {
		a.shadow = nil
		alone[i] = previewed(t, trial.try(Preview(ctx)))
		if (a.shadow == nil) != trial.once {
			t.Errorf("%s: the copy is kept: %t", trial.what, a.shadow != nil)
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same order each time
	for range 100 {
		i := random.IntN(len(trials))
		had := a.shadow
		if diff := cmp.Diff(alone[i], previewed(t, trials[i].try(Preview(ctx)))); diff != "" {
			t.Fatalf("%s after other trials (-alone +now):\n%s", trials[i].what, diff)
		}
		if had != nil && a.shadow != had && !trials[i].once {
			t.Errorf("%s: the copy was made again", trials[i].what)
		}
	}

	a.shadow = nil
	_ = previewed(t, trials[0].try(Preview(ctx)))
	must(f.CreatePolicy(ctx, f.owner, toDatabase("in between", "22")))(t)
	had := a.shadow
	if got := previewed(t, trials[0].try(Preview(ctx))); got.Changed.Count != 0 || a.shadow == had {
		t.Errorf("after a change that opened the port already: %+v, on the old copy: %t", got, a.shadow == had)
	}
	f.forgetShadows()
	if a.shadow == nil {
		t.Error("the copy is forgotten at once")
	}
	a.shadow.asked = a.shadow.asked.Add(-2 * shadowLife)
	f.forgetShadows()
	if a.shadow != nil {
		t.Error("the copy is kept for ever")
	}
}
