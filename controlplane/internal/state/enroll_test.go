package state

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

func TestExactlyAsManyMachinesAsTheLimit(t *testing.T) {
	f := fresh(t)
	k := must(f.CreateSetupKey(t.Context(), f.owner, api.SetupKeyRequest{Name: "five", Type: new(api.SetupKeyRequestTypeReusable), UsageLimit: new(5)}))(t)
	in := atOnce(60, func(i int) error {
		_, err := f.Enroll(t.Context(), auth.Principal{}, request(k.Key, fmt.Sprintf("m%d", i)), somewhere)
		return err
	}, func(err error) { refused(t, err, problem.KindSetupKey, "", "used up") })
	k = must(f.GetSetupKey(t.Context(), f.owner, k.Id))(t)
	peers := must2(f.ListPeers(t.Context(), f.owner, api.ListPeersParams{SetupKey: &k.Id}))(t)
	if in != 5 || k.UsedTimes != 5 || len(peers) != 5 || k.State != "overused" {
		t.Fatalf("%d got in, %d uses, %d peers, %s", in, k.UsedTimes, len(peers), k.State)
	}
}

func TestEnrolAgainAnswersTheSamePeer(t *testing.T) {
	f := fresh(t)
	req := request(f.network.OneOffSetupKey, "m")
	first := must(f.Enroll(t.Context(), auth.Principal{}, req, somewhere))(t)
	again := must(f.Enroll(t.Context(), auth.Principal{}, req, somewhere))(t)
	if first != again || first.PeerId == "" || first.Issuer != "https://wattle.test" {
		t.Fatalf("%+v and %+v", first, again)
	}
	other := request(f.network.ReusableSetupKey, "n")
	other.MachineKey = req.MachineKey
	_, err := f.Enroll(t.Context(), auth.Principal{}, other, somewhere)
	refused(t, err, problem.KindConflict, "machine_key", "another peer")
	other = request(f.network.ReusableSetupKey, "n")
	other.WireguardKey = req.WireguardKey
	_, err = f.Enroll(t.Context(), auth.Principal{}, other, somewhere)
	refused(t, err, problem.KindConflict, "wireguard_key", "another peer")
	other.WireguardKey = strings.Repeat("!", 44)
	_, err = f.Enroll(t.Context(), auth.Principal{}, other, somewhere)
	refused(t, err, problem.KindInvalid, "wireguard_key", "32 bytes")
	// Refusals count no use of the key.
	for _, k := range must2(f.ListSetupKeys(t.Context(), f.owner, api.ListSetupKeysParams{}))(t) {
		if want := map[string]int{"One-off key": 1, "Default key": 0}[k.Name]; k.UsedTimes != want {
			t.Fatalf("%s was used %d times", k.Name, k.UsedTimes)
		}
	}
}

func TestAddressesAndLabels(t *testing.T) {
	f := fresh(t)
	must(f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{NetworkRange: new("100.99.0.0/24")}, ""))(t)
	a, b := f.enroll("Build Server"), f.enroll("build-server")
	if a.Ip != "100.99.0.1" || b.Ip != "100.99.0.2" || a.DnsLabel != "build-server.wattle.internal" || b.DnsLabel != "build-server-2.wattle.internal" {
		t.Fatalf("%s %s, %s %s", a.Ip, a.DnsLabel, b.Ip, b.DnsLabel)
	}
	update := func(id string, req api.PeerRequest) (api.Peer, error) {
		return f.UpdatePeer(t.Context(), f.owner, id, req, "")
	}
	_, err := update(b.Id, api.PeerRequest{Ip: &a.Ip})
	refused(t, err, problem.KindConflict, "ip", "taken")
	_, err = update(b.Id, api.PeerRequest{Ip: new("10.0.0.1")})
	refused(t, err, problem.KindInvalid, "ip", "inside the network range 100.99.0.0/24")
	_, err = update(b.Id, api.PeerRequest{Ip: new("100.99.0.255")})
	refused(t, err, problem.KindInvalid, "ip", "first or the last")
	b = must(update(b.Id, api.PeerRequest{Ip: new("100.99.0.3"), Name: new("db")}))(t)
	if b.DnsLabel != "db.wattle.internal" || b.Ip != "100.99.0.3" || b.ObjectVersion != 2 {
		t.Fatalf("%+v", b)
	}
	// The default address of the third ordinal is taken by hand: it is passed over.
	if c := f.enroll("c"); c.Ip != "100.99.0.4" {
		t.Fatal(c.Ip)
	}
}

func TestFreedOrdinalsRest(t *testing.T) {
	f := fresh(t)
	a := f.enroll("a")
	if err := f.DeletePeer(t.Context(), f.owner, a.Id, ""); err != nil {
		t.Fatal(err)
	}
	if b := f.enroll("b"); b.Ip == a.Ip {
		t.Fatal("the address of a removed peer was given again at once")
	}
	err := f.store.Write(t.Context(), func(tx *store.Tx) error {
		// As if the peer had left a day ago.
		if _, _, err := store.ReuseOrdinal(t.Context(), tx, f.owner.AccountID, now()); err != nil {
			return err
		}
		return store.FreeOrdinal(t.Context(), tx, f.owner.AccountID, 1, now().Add(-25*time.Hour))
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := f.enroll("c"); c.Ip != a.Ip {
		t.Fatalf("got %s, want the rested %s", c.Ip, a.Ip)
	}
}

func TestPoolExhausted(t *testing.T) {
	f := fresh(t)
	must(f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{NetworkRange: new("100.99.0.0/24")}, ""))(t)
	err := f.store.Write(t.Context(), func(tx *store.Tx) error {
		row, err := store.NextSerial(t.Context(), tx, f.owner.AccountID)
		row.NextOrdinal = 254
		store.KeepAccount(tx, row)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if last := f.enroll("last"); last.Ip != "100.99.0.254" {
		t.Fatal(last.Ip)
	}
	_, err = f.Enroll(t.Context(), auth.Principal{}, request(f.network.ReusableSetupKey, "one more"), somewhere)
	refused(t, err, problem.KindInvalid, "", "no overlay address is free")
}
