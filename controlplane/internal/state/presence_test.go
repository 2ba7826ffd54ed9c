package state

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func TestPresenceMovesNothing(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("a")
	if peer.Connected || peer.ConnectionIp != "192.0.2.7" || peer.Os != "linux" || peer.Hostname != "a" {
		t.Fatalf("%+v", peer)
	}
	serial := f.accounts[f.owner.AccountID].row.Serial
	there := netip.MustParseAddr("198.51.100.9")
	f.SetPresence(peer.Id, "new", true, there)
	f.SetPresence(peer.Id, "old", false, there) // the late end of a replaced stream
	agent := auth.Principal{Kind: auth.KindAgent, PeerID: peer.Id, AccountID: f.owner.AccountID}
	facts := api.MachineFacts{Hostname: "a", Os: "linux", KernelVersion: "6.9"}
	if err := f.ReportAgent(t.Context(), agent, api.StatusReport{Facts: facts}, there); err != nil {
		t.Fatal(err)
	}
	got := must(f.GetPeer(t.Context(), f.owner, peer.Id))(t)
	if !got.Connected || got.ConnectionIp != "198.51.100.9" || got.KernelVersion != "6.9" || got.ObjectVersion != peer.ObjectVersion {
		t.Fatalf("%+v", got)
	}
	f.SetPresence(peer.Id, "new", false, there)
	if got := must(f.GetPeer(t.Context(), f.owner, peer.Id))(t); got.Connected {
		t.Fatal("still connected")
	}
	if err := f.flushPresence(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := must(New(t.Context(), f.cfg))(t)
	after := must(second.GetPeer(t.Context(), f.owner, peer.Id))(t)
	if after.KernelVersion != "6.9" || after.LastSeen.IsZero() || second.accounts[f.owner.AccountID].row.Serial != serial {
		t.Fatalf("%+v", after)
	}
}

// While the database is away nothing is lost that memory knows.
func TestPresenceThatWasNotWrittenIsWrittenLater(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("a")
	f.SetPresence(peer.Id, "s", true, somewhere)
	agent := auth.Principal{Kind: auth.KindAgent, PeerID: peer.Id, AccountID: f.owner.AccountID}
	if err := f.ReportAgent(t.Context(), agent, api.StatusReport{Facts: api.MachineFacts{Hostname: "a", Os: "linux", KernelVersion: "6.9"}}, somewhere); err != nil {
		t.Fatal(err)
	}
	f.SetPresence(peer.Id, "s", false, somewhere)
	away, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.flushPresence(away); err == nil {
		t.Fatal("it was written without a database")
	}
	if err := f.flushPresence(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := must(New(t.Context(), f.cfg))(t)
	if after := must(second.GetPeer(t.Context(), f.owner, peer.Id))(t); after.KernelVersion != "6.9" {
		t.Errorf("after a restart the machine is as it was before: %+v", after)
	}
}

func TestEphemeralPeersGo(t *testing.T) {
	f := fresh(t)
	k := must(f.CreateSetupKey(t.Context(), f.owner, api.SetupKeyRequest{Name: "e", Type: new(api.SetupKeyRequestTypeReusable), Ephemeral: new(true)}))(t)
	join := func(key string) string {
		return must(f.Enroll(t.Context(), auth.Principal{}, request(key, "m"), somewhere))(t).PeerId
	}
	away, here, named, stays := join(k.Key), join(k.Key), join(k.Key), join(f.network.ReusableSetupKey)
	rule := api.PolicyRuleRequest{Name: "r", Sources: ids("All")}
	rule.DestinationResource.Set(api.RuleResource{Id: named, Type: "peer"})
	must(f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{rule}}))(t)
	a := f.accounts[f.owner.AccountID]
	for _, id := range []string{away, here, named, stays} {
		a.present.update(id, func(seen *presence) { seen.lastSeen = now().Add(-11 * time.Minute) })
	}
	f.SetPresence(here, "s", true, somewhere)
	if err := f.removeEphemeral(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, p := range must2(f.ListPeers(t.Context(), f.owner, api.ListPeersParams{}))(t) {
		left = append(left, p.Id)
	}
	if !slices.Equal(left, []string{here, named, stays}) {
		t.Fatal(left)
	}
	event := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(1)}))(t)[0]
	if event.ActivityCode != "peer.expire" || event.InitiatorId != "system" || event.Channel != "system" {
		t.Fatalf("%+v", event)
	}
}

func TestSubscribersHearInOrder(t *testing.T) {
	f := fresh(t)
	var serials []int64
	var heard []string
	cancel := must(f.Subscribe(f.owner.AccountID, func(u *netmap.Update) {
		serials = append(serials, u.Serial)
		heard = append(heard, slices.Collect(u.Peers())...)
	}))(t)
	a := f.enroll("a")
	f.group("quiet") // no map changes
	b := f.enroll("b")
	if len(serials) < 2 || !slices.IsSorted(serials) || !slices.Contains(heard, a.Id) || !slices.Contains(heard, b.Id) {
		t.Fatal(serials, heard)
	}
	agent := auth.Principal{Kind: auth.KindAgent, ID: a.Id, PeerID: a.Id, AccountID: f.owner.AccountID, Channel: auth.ChannelAgent}
	if err := f.WithdrawAgent(t.Context(), agent); err != nil {
		t.Fatal(err)
	}
	n := len(serials)
	cancel()
	f.enroll("c")
	if len(serials) != n {
		t.Fatal("heard after the end")
	}
	refused(t, f.WithdrawAgent(t.Context(), agent), problem.KindNotFound, "", "peer not found")
	if _, _, err := f.PeerKey(t.Context(), a.Id); err == nil {
		t.Fatal("a removed peer has a key")
	}
}

func TestAuditTellsWho(t *testing.T) {
	f := fresh(t)
	g := f.group("web")
	must(f.UpdateGroup(t.Context(), f.owner, g.Id, api.GroupRequest{Name: "www"}, ""))(t)
	events := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{}))(t)
	if len(events) != 3 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	if e.Activity != "Group changed" || e.InitiatorId != f.owner.ID || e.InitiatorEmail != "owner@example.org" || e.TargetId != g.Id ||
		e.RequestId != "req-1" || e.Channel != "api" || e.Meta["name"] != "www" || (*e.Before)["name"] != "web" || (*e.After)["name"] != "www" {
		t.Fatalf("%+v", e)
	}
	if events[1].Before != nil || events[2].ActivityCode != "account.create" || events[2].Channel != "command" {
		t.Fatalf("%+v", events)
	}
	page, next, err := f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(2)})
	rest := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(2), Cursor: &next}))(t)
	if err != nil || len(page) != 2 || len(rest) != 1 || rest[0].Id != "1" {
		t.Fatal(page, rest, err)
	}
}

func TestAuditFilters(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	must(f.UpdateGroup(t.Context(), f.owner, web.Id, api.GroupRequest{Name: "www"}, ""))(t)
	peer := f.enroll("a")
	all := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{}))(t)
	if len(all) != 4 {
		t.Fatalf("%d events", len(all))
	}
	middle := all[1].Timestamp
	for what, test := range map[string]struct {
		params api.ListAuditEventsParams
		want   func(e api.AuditEvent) bool
	}{
		"activity":  {api.ListAuditEventsParams{Activity: new("group.create")}, func(e api.AuditEvent) bool { return e.ActivityCode == "group.create" }},
		"target":    {api.ListAuditEventsParams{Target: &web.Id}, func(e api.AuditEvent) bool { return e.TargetId == web.Id }},
		"initiator": {api.ListAuditEventsParams{Initiator: &peer.Id}, func(e api.AuditEvent) bool { return e.InitiatorId == peer.Id }},
		"since":     {api.ListAuditEventsParams{Since: &middle}, func(e api.AuditEvent) bool { return !e.Timestamp.Before(middle) }},
		"until":     {api.ListAuditEventsParams{Until: &middle}, func(e api.AuditEvent) bool { return e.Timestamp.Before(middle) }},
		"two":       {api.ListAuditEventsParams{Target: &web.Id, Activity: new("group.update")}, func(e api.AuditEvent) bool { return e.TargetId == web.Id && e.ActivityCode == "group.update" }},
		"none":      {api.ListAuditEventsParams{Target: new("nothing")}, func(api.AuditEvent) bool { return false }},
	} {
		var want, got []string
		for _, e := range all {
			if test.want(e) {
				want = append(want, e.Id)
			}
		}
		for _, e := range must2(f.ListAuditEvents(t.Context(), f.owner, test.params))(t) {
			got = append(got, e.Id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	page, next, err := f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Target: &web.Id, Limit: new(1)})
	rest := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Target: &web.Id, Limit: new(1), Cursor: &next}))(t)
	if err != nil || page[0].ActivityCode != "group.update" || len(rest) != 1 || rest[0].ActivityCode != "group.create" {
		t.Error(page, rest, err)
	}
	if one := must(f.GetAuditEvent(t.Context(), f.owner, all[2].Id))(t); one.TargetId != web.Id || one.ActivityCode != "group.create" {
		t.Errorf("%+v", one)
	}
	for _, id := range []string{"0", "99", "01", "x", "-1", ""} {
		_, err := f.GetAuditEvent(t.Context(), f.owner, id)
		refused(t, err, problem.KindNotFound, "", "audit event not found")
	}
}
