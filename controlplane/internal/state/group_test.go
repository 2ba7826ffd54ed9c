package state

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func contains(t testing.TB, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q does not contain %q", text, part)
	}
}

func peerIDs(g api.Group) []string {
	ids := []string{}
	for _, p := range g.Peers {
		ids = append(ids, p.Id)
	}
	return ids
}

func TestGroupMembersKeepTheirOrder(t *testing.T) {
	f := fresh(t)
	a, b, c := f.enroll("a").Id, f.enroll("b").Id, f.enroll("c").Id
	g := f.group("web", c, a, b)
	if diff := cmp.Diff([]string{c, a, b}, peerIDs(g)); diff != "" {
		t.Fatal(diff)
	}
	for _, want := range [][]string{{a, c}, {b, a, c}, {c, b, a}, {}, {a}} {
		g = must(f.UpdateGroup(t.Context(), f.owner, g.Id, api.GroupRequest{Name: "web", Peers: nullable.NewNullableWithValue(want)}, ""))(t)
		if diff := cmp.Diff(want, peerIDs(g)); diff != "" {
			t.Fatal(diff)
		}
	}
	// Absent members stay.
	version := g.Version
	g = must(f.UpdateGroup(t.Context(), f.owner, g.Id, api.GroupRequest{Name: "www"}, ""))(t)
	if diff := cmp.Diff([]string{a}, peerIDs(g)); diff != "" || g.Name != "www" || g.Version != version+1 {
		t.Fatal(diff, g)
	}
	// The same again is no change.
	serial := f.accounts[f.owner.AccountID].row.Serial
	again := must(f.UpdateGroup(t.Context(), f.owner, g.Id, api.GroupRequest{Name: "www"}, ""))(t)
	if diff := cmp.Diff(g, again); diff != "" || f.accounts[f.owner.AccountID].row.Serial != serial {
		t.Fatal("an equal write moved the serial", diff)
	}
}

func TestGroupRules(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("a").Id
	g := f.group("web", peer)
	all := must2(f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Name: new("All")}))(t)[0]
	if all.PeersCount != 1 {
		t.Fatalf("All holds %d peers", all.PeersCount)
	}
	create := func(req api.GroupRequest) error { _, err := f.CreateGroup(t.Context(), f.owner, req); return err }
	update := func(id string, req api.GroupRequest, match string) error {
		_, err := f.UpdateGroup(t.Context(), f.owner, id, req, match)
		return err
	}
	add := func(group, peer string) error {
		_, err := f.CreateGroupMembership(t.Context(), f.owner, group, api.GroupMembershipRequest{PeerId: peer})
		return err
	}
	refused(t, create(api.GroupRequest{Name: "web"}), problem.KindConflict, "name", "taken")
	refused(t, create(api.GroupRequest{Name: "All"}), problem.KindInvalid, "name", "built-in")
	refused(t, create(api.GroupRequest{Name: ""}), problem.KindInvalid, "name", "must not be empty")
	refused(t, create(api.GroupRequest{Name: "x", Peers: nullable.NewNullableWithValue([]string{peer, "nobody"})}), problem.KindInvalid, "peers[1]", `unknown peer id "nobody"`)
	refused(t, update(all.Id, api.GroupRequest{Name: "Everybody"}, ""), problem.KindInvalid, "", "built-in")
	refused(t, update("nobody", api.GroupRequest{Name: "x"}, ""), problem.KindNotFound, "", "group not found")
	refused(t, update(g.Id, api.GroupRequest{Name: "x"}, `"77"`), problem.KindPrecondition, "", "changed since")
	refused(t, f.DeleteGroup(t.Context(), f.owner, all.Id, ""), problem.KindInvalid, "", "built-in")
	refused(t, add(all.Id, peer), problem.KindInvalid, "", "built-in")
	refused(t, add(g.Id, "nobody"), problem.KindInvalid, "peer_id", `unknown peer id "nobody"`)
	refused(t, add("nobody", peer), problem.KindNotFound, "", "group not found")
	_, _, err := f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Name: new("none")})
	refused(t, err, problem.KindNotFound, "", "group not found")

	auditor := f.owner
	auditor.Kind, auditor.ID = "user", "nobody"
	_, err = f.CreateGroup(t.Context(), auditor, api.GroupRequest{Name: "x"})
	refused(t, err, problem.KindUnauthenticated, "", "removed")
}

func must2[T any](v T, next string, err error) func(t testing.TB) T {
	_ = next
	return must(v, err)
}
