package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/label"
)

// selfOf is what the map tells a peer about itself.
func (f *fixture) selfOf(peerID string) api.SelfView {
	f.t.Helper()
	snapshot := must(must(f.Engine(f.owner.AccountID))(f.t).Snapshot(f.t.Context(), peerID))(f.t)
	return snapshot.Event.Self
}

// ofPerson makes a person the one who enrolled a peer, as a login will.
func (f *fixture) ofPerson(peerID, userID string) {
	f.t.Helper()
	err := f.write(f.t.Context(), auth.System(f.owner.AccountID), "", func(w *write) error {
		peer, err := w.peer(peerID, "")
		if err != nil {
			return err
		}
		peer.UserID, peer.SetupKeyID = userID, ""
		w.change(change{Peer: &peer})
		if err := store.Peers.Update(w.ctx, w.tx, &peer); err != nil {
			return err
		}
		return w.note("peer.update", peer.ID, peer.Name, nil, nil)
	}, func(*account) {})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestPeerFlags(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("laptop")
	put := func(req api.PeerRequest) (api.Peer, error) {
		return f.UpdatePeer(t.Context(), f.owner, peer.Id, req, "")
	}
	// Existing clients send every flag with every change.
	off := new(false)
	got := must(put(api.PeerRequest{Name: new("desk"), SshEnabled: off, LoginExpirationEnabled: off, InactivityExpirationEnabled: off, ApprovalRequired: off}))(t)
	if got.ObjectVersion != 2 {
		t.Errorf("version %d after the first change", got.ObjectVersion)
	}
	if got = must(put(api.PeerRequest{SshEnabled: new(true)}))(t); !got.SshEnabled || got.Name != "desk" || got.ObjectVersion != 3 {
		t.Errorf("%+v", got)
	}
	for _, req := range []api.PeerRequest{{LoginExpirationEnabled: new(true)}, {InactivityExpirationEnabled: new(true)}} {
		_, err := put(req)
		refused(t, err, problem.KindPrecondition, "", "enrolled by a setup key")
	}
	f.ofPerson(peer.Id, f.owner.ID)
	got = must(put(api.PeerRequest{LoginExpirationEnabled: new(true), InactivityExpirationEnabled: new(true)}))(t)
	if !got.LoginExpirationEnabled || !got.InactivityExpirationEnabled || !got.SshEnabled || got.UserId != f.owner.ID {
		t.Errorf("%+v", got)
	}
	second := must(New(t.Context(), f.cfg))(t)
	if again := must(second.GetPeer(t.Context(), f.owner, peer.Id))(t); !again.LoginExpirationEnabled || !again.InactivityExpirationEnabled || !again.SshEnabled {
		t.Errorf("after a restart %+v", again)
	}
}

// A peer is called what its machine calls itself, until an administrator gives it
// another name, and again once it was given that one.
func TestNameFollowsTheHostname(t *testing.T) {
	f := fresh(t)
	peer, other := f.enroll("laptop"), f.enroll("other")
	agent := auth.Principal{Kind: auth.KindAgent, AccountID: f.owner.AccountID, ID: peer.Id, PeerID: peer.Id}
	report := func(hostname, name, label string) {
		t.Helper()
		facts := api.MachineFacts{Hostname: hostname, Os: "linux", Arch: "amd64", AgentVersion: "1.0.0"}
		if err := f.ReportAgent(t.Context(), agent, api.StatusReport{Facts: facts}, somewhere); err != nil {
			t.Fatal(err)
		}
		got := must(f.GetPeer(t.Context(), f.owner, peer.Id))(t)
		if told := f.selfOf(peer.Id).Name; got.Name != name || got.Hostname != hostname || told != label {
			t.Errorf("it reports %q and is %q with the label %q, want %q and %q", hostname, got.Name, told, name, label)
		}
	}
	rename := func(name string) {
		t.Helper()
		_ = must(f.UpdatePeer(t.Context(), f.owner, peer.Id, api.PeerRequest{Name: &name}, ""))(t)
	}
	report("Büro-1", "Büro-1", label.Of("Büro-1"))
	version := must(f.GetPeer(t.Context(), f.owner, peer.Id))(t).ObjectVersion
	report("Büro-1", "Büro-1", label.Of("Büro-1"))
	if again := must(f.GetPeer(t.Context(), f.owner, peer.Id))(t).ObjectVersion; again != version {
		t.Errorf("the same report again is a change: version %d became %d", version, again)
	}
	report("", "Büro-1", label.Of("Büro-1"))
	report(other.Name, other.Name, fmt.Sprintf("other-%d", f.selfOf(peer.Id).N))
	rename("desk")
	report("elsewhere", "desk", "desk")
	rename("elsewhere")
	report("home", "home", "home")
	second := must(New(t.Context(), f.cfg))(t)
	if again := must(second.GetPeer(t.Context(), f.owner, peer.Id))(t); again.Name != "home" {
		t.Errorf("after a restart %+v", again)
	}
}

func TestFixedAddresses(t *testing.T) {
	f := fresh(t)
	a, b := f.enroll("a"), f.enroll("b")
	put := func(req api.PeerRequest) (api.Peer, error) { return f.UpdatePeer(t.Context(), f.owner, b.Id, req, "") }
	network := must(f.GetAccountSettings(t.Context(), f.owner))(t).NetworkRangeV6
	inside := strings.TrimSuffix(network, ":/48") // fd12:3456:789a:
	_, err := put(api.PeerRequest{Ipv6: &a.Ipv6})
	refused(t, err, problem.KindConflict, "ipv6", "taken")
	_, err = put(api.PeerRequest{Ipv6: new("fd00:ffff::1")})
	refused(t, err, problem.KindInvalid, "ipv6", "inside the network range "+network)
	_, err = put(api.PeerRequest{Ipv6: new(strings.TrimSuffix(network, "/48"))})
	refused(t, err, problem.KindInvalid, "ipv6", "first address")
	_, err = put(api.PeerRequest{Ipv6: new(strings.ToUpper(inside + ":a"))})
	refused(t, err, problem.KindInvalid, "ipv6", "")
	// The default address of the next ordinal, taken by hand, is passed over.
	got := must(put(api.PeerRequest{Ipv6: new(inside + ":3")}))(t)
	if self := f.selfOf(b.Id); got.Ipv6 != inside+":3" || self.Ipv6 != got.Ipv6 || got.Ip != b.Ip {
		t.Errorf("%+v, the map says %s", got, self.Ipv6)
	}
	if c := f.enroll("c"); c.Ipv6 != inside+":4" {
		t.Errorf("the next peer has %s", c.Ipv6)
	}
}

func TestApprovalLetsAPeerIn(t *testing.T) {
	f := fresh(t)
	first := f.enroll("first")
	must(f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{PeerApprovalEnabled: nullable.NewNullableWithValue(true)}, ""))(t)
	waiting := f.enroll("waiting")
	engine := must(f.Engine(f.owner.AccountID))(t)
	if !waiting.ApprovalRequired || engine.Sees(first.Id, waiting.Id) || engine.Sees(waiting.Id, first.Id) || f.selfOf(waiting.Id).Approved {
		t.Error("a peer that waits takes part")
	}
	must(f.UpdatePeer(t.Context(), f.owner, waiting.Id, api.PeerRequest{ApprovalRequired: new(false)}, ""))(t)
	if !engine.Sees(first.Id, waiting.Id) || !engine.Sees(waiting.Id, first.Id) || !f.selfOf(waiting.Id).Approved {
		t.Error("an approved peer takes no part")
	}
	reach := must(f.ListAccessiblePeers(t.Context(), f.owner, first.Id))(t)
	if len(reach) != 1 || reach[0].Id != waiting.Id || reach[0].Ipv6 != waiting.Ipv6 || reach[0].Os != "linux" {
		t.Errorf("%+v", reach)
	}
	must(f.UpdatePeer(t.Context(), f.owner, waiting.Id, api.PeerRequest{ApprovalRequired: new(true)}, ""))(t)
	if engine.Sees(first.Id, waiting.Id) {
		t.Error("a peer whose approval was taken back takes part")
	}
}

func TestExtraLabels(t *testing.T) {
	f := fresh(t)
	join := func(key, hostname string, labels ...string) (api.Peer, error) {
		req := request(key, hostname)
		req.ExtraDnsLabels = &labels
		result, err := f.Enroll(t.Context(), auth.Principal{}, req, somewhere)
		if err != nil {
			return api.Peer{}, err
		}
		return f.GetPeer(t.Context(), f.owner, result.PeerId)
	}
	k := must(f.CreateSetupKey(t.Context(), f.owner, api.SetupKeyRequest{
		Name: "k", Type: new(api.SetupKeyRequestTypeReusable), AllowExtraDnsLabels: new(true),
	}))(t)
	_, err := join(f.network.ReusableSetupKey, "m", "shop")
	refused(t, err, problem.KindInvalid, "extra_dns_labels", "the setup key allows none")
	_, err = join(k.Key, "m", "Shop_1")
	refused(t, err, problem.KindInvalid, "extra_dns_labels[0]", "")
	first := must(join(k.Key, "web", "shop", "blog"))(t)
	if !slices.Equal(first.ExtraDnsLabels, []string{"shop", "blog"}) || !slices.Equal(f.selfOf(first.Id).Aliases, first.ExtraDnsLabels) {
		t.Errorf("%v, the map says %v", first.ExtraDnsLabels, f.selfOf(first.Id).Aliases)
	}
	_, err = join(k.Key, "other", "news", "shop")
	refused(t, err, problem.KindConflict, "extra_dns_labels[1]", "another peer")
	_, err = join(k.Key, "other", "web")
	refused(t, err, problem.KindConflict, "extra_dns_labels[0]", "another peer")
	// A host name that is somebody's extra label gets its number behind it.
	if second := must(join(k.Key, "shop"))(t); !strings.HasPrefix(second.DnsLabel, "shop-") {
		t.Errorf("two peers are called %s", second.DnsLabel)
	}
	if kept := must(f.GetSetupKey(t.Context(), f.owner, k.Id))(t); kept.UsedTimes != 2 {
		t.Errorf("refusals counted: %d uses", kept.UsedTimes)
	}
	if err := f.DeletePeer(t.Context(), f.owner, first.Id, ""); err != nil {
		t.Fatal(err)
	}
	if third := must(join(k.Key, "third", "blog"))(t); !slices.Equal(third.ExtraDnsLabels, []string{"blog"}) {
		t.Errorf("%v", third.ExtraDnsLabels)
	}
}

// The job of an ephemeral peer's end, by the clock.
func TestEphemeralPeerIsRemovedAfterItsAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fresh(t)
		k := must(f.CreateSetupKey(t.Context(), f.owner, api.SetupKeyRequest{Name: "e", Ephemeral: new(true)}))(t)
		peer := f.peerAfter(f.Enroll(t.Context(), auth.Principal{}, request(k.Key, "m"), somewhere))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		there := func() bool {
			synctest.Wait()
			_, err := f.GetPeer(t.Context(), f.owner, peer.Id)
			return err == nil
		}
		f.SetPresence(peer.Id, "s", true, somewhere)
		time.Sleep(time.Hour)
		if !there() {
			t.Fatal("a connected peer was removed")
		}
		f.SetPresence(peer.Id, "s", false, somewhere)
		time.Sleep(ephemeralAbsence - time.Second)
		if !there() {
			t.Fatal("a peer was removed before its time")
		}
		time.Sleep(presenceInterval + time.Second)
		if there() {
			t.Error("a peer that stayed away is still there")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
