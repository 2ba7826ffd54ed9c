package state

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func TestPagesKeepTheirPlace(t *testing.T) {
	f := fresh(t)
	var groups []api.Group
	for i := range 6 {
		groups = append(groups, f.group(fmt.Sprint("g", i)))
	}
	page := func(cursor string) (names []string, next string) {
		items, next, err := f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Limit: new(3), Cursor: &cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range items {
			names = append(names, g.Name)
		}
		return names, next
	}
	first, next := page("")
	if diff := cmp.Diff([]string{"All", "g0", "g1"}, first); diff != "" || next == "" {
		t.Fatal(diff)
	}
	for _, i := range []int{1, 2} { // the last of the first page goes, and the first of the second
		if err := f.DeleteGroup(t.Context(), f.owner, groups[i].Id, ""); err != nil {
			t.Fatal(err)
		}
	}
	second, next := page(next)
	if diff := cmp.Diff([]string{"g3", "g4", "g5"}, second); diff != "" || next != "" {
		t.Fatal(diff, next)
	}
	_, _, err := f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Cursor: new("?")})
	refused(t, err, problem.KindInvalid, "cursor", "is not a cursor")
	_, _, err = f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Limit: new(1001)})
	refused(t, err, problem.KindInvalid, "limit", "between 1 and 1000")
	some := must2(f.ListGroups(t.Context(), f.owner, api.ListGroupsParams{Ids: &[]string{groups[5].Id, "gone", groups[0].Id}}))(t)
	if len(some) != 2 || some[0].Name != "g0" || some[1].Name != "g5" {
		t.Fatalf("%+v", some)
	}
}

func TestPeerFilters(t *testing.T) {
	f := fresh(t)
	a, b := f.enroll("a"), f.enroll("b")
	g := f.group("web", b.Id)
	for name, c := range map[string]struct {
		params api.ListPeersParams
		want   []string
	}{
		"all": {api.ListPeersParams{}, []string{a.Id, b.Id}}, "name": {api.ListPeersParams{Name: new("b")}, []string{b.Id}},
		"ip": {api.ListPeersParams{Ip: &a.Ip}, []string{a.Id}}, "group": {api.ListPeersParams{Group: &g.Id}, []string{b.Id}},
		"unknown group": {api.ListPeersParams{Group: new("gone")}, nil}, "unknown key": {api.ListPeersParams{SetupKey: new("gone")}, nil},
		"key": {api.ListPeersParams{SetupKey: new(a.SetupKeyId.MustGet())}, []string{a.Id, b.Id}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			items := must2(f.ListPeers(t.Context(), f.owner, c.params))(t)
			for _, p := range items {
				got = append(got, p.Id)
				if *p.AccessiblePeersCount != 1 {
					t.Errorf("peer %s reaches %d", p.Name, *p.AccessiblePeersCount)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" || items == nil {
				t.Fatal(diff)
			}
		})
	}
	reach := must(f.ListAccessiblePeers(t.Context(), f.owner, a.Id))(t)
	if len(reach) != 1 || reach[0].Id != b.Id || reach[0].DnsLabel != b.DnsLabel {
		t.Fatalf("%+v", reach)
	}
}
