package state

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// A client that sends back all it read changes nothing; every setting that has
// no effect yet is refused when it moves, at its own place.
func TestSettingsWithoutEffectStay(t *testing.T) {
	f := fresh(t)
	account := must(f.ListAccounts(t.Context(), f.owner))(t)[0]
	var members map[string]any
	text, err := json.Marshal(account.Settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	put := func(settings map[string]any) error {
		text, err := json.Marshal(map[string]any{"settings": settings})
		if err != nil {
			t.Fatal(err)
		}
		var req api.AccountRequest
		if err := json.Unmarshal(text, &req); err != nil {
			t.Fatal(err)
		}
		_, err = f.UpdateAccount(t.Context(), f.owner, account.Id, req, "")
		return err
	}
	if err := put(members); err != nil {
		t.Fatalf("what was read is refused: %v", err)
	}
	if after := must(f.ListAccounts(t.Context(), f.owner))(t)[0]; after.Version != account.Version || !reflect.DeepEqual(after, account) {
		t.Errorf("%+v became %+v", account, after)
	}
	moved := 0
	try := func(name, field string, value any, settings func(any) map[string]any) {
		switch name {
		case "dns_domain", "network_range", "peer_approval_enabled":
			return
		}
		other := map[string]any{"bool": true, "float64": 4711.0, "string": "other", "slice": []any{"other"}}[reflect.TypeOf(value).Kind().String()]
		if value == true {
			other = false
		}
		moved++
		refused(t, put(settings(other)), problem.KindInvalid, field, "is not available yet")
	}
	for name, value := range members {
		if extra, ok := value.(map[string]any); ok {
			for name, value := range extra {
				try(name, "settings.extra."+name, value, func(v any) map[string]any {
					return map[string]any{"extra": map[string]any{name: v}}
				})
			}
			continue
		}
		try(name, "settings."+name, value, func(v any) map[string]any { return map[string]any{name: v} })
	}
	if moved != 18 {
		t.Errorf("%d settings were tried, want 18", moved)
	}
	_, err = f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{JwtGroupsEnabled: new(true)}, "")
	refused(t, err, problem.KindInvalid, "jwt_groups_enabled", "is not available yet and stays false")
}

// The nested form changes what has an effect and leaves alone what is absent.
func TestNestedSettings(t *testing.T) {
	f := fresh(t)
	id := f.owner.AccountID
	must(f.UpdateAccount(t.Context(), f.owner, id, api.AccountRequest{Settings: api.NestedSettingsRequest{
		DnsDomain: new("mesh.example"), Extra: &api.NestedSettingsExtraRequest{PeerApprovalEnabled: new(true)},
	}}, ""))(t)
	got := must(f.UpdateAccount(t.Context(), f.owner, id, api.AccountRequest{}, ""))(t)
	if got.Settings.DnsDomain != "mesh.example" || !got.Settings.Extra.PeerApprovalEnabled {
		t.Errorf("%+v", got.Settings)
	}
	_, err := f.UpdateAccount(t.Context(), f.owner, id, api.AccountRequest{Settings: api.NestedSettingsRequest{NetworkRange: new("10.0.0.0/30")}}, "")
	refused(t, err, problem.KindInvalid, "settings.network_range", "")
}

// What existing clients send with every change of a peer.
func TestPeerFlags(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("laptop")
	put := func(req api.PeerRequest) error {
		_, err := f.UpdatePeer(t.Context(), f.owner, peer.Id, req, "")
		return err
	}
	off := new(false)
	if err := put(api.PeerRequest{Name: new("desk"), SshEnabled: off, LoginExpirationEnabled: off, InactivityExpirationEnabled: off, ApprovalRequired: off}); err != nil {
		t.Error(err)
	}
	refused(t, put(api.PeerRequest{LoginExpirationEnabled: new(true)}), problem.KindPrecondition, "", "enrolled by a setup key")
	refused(t, put(api.PeerRequest{InactivityExpirationEnabled: new(true)}), problem.KindPrecondition, "", "enrolled by a setup key")
	refused(t, put(api.PeerRequest{SshEnabled: new(true)}), problem.KindInvalid, "ssh_enabled", "not available yet")
}

func TestPeerReferrers(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("laptop")
	if list := must(f.ListPeerReferrers(t.Context(), f.owner, peer.Id))(t); list == nil || len(list) != 0 {
		t.Errorf("%v", list)
	}
	end := api.PolicyRuleRequest{Name: "r", Sources: ids("All")}
	end.DestinationResource.Set(api.RuleResource{Id: peer.Id, Type: "peer"})
	policy := must(f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{end}}))(t)
	list := must(f.ListPeerReferrers(t.Context(), f.owner, peer.Id))(t)
	if len(list) != 1 || list[0].Type != "policy" || list[0].Id != policy.Id || list[0].Name != "p" {
		t.Errorf("%v", list)
	}
	_, err := f.ListGroupReferrers(t.Context(), f.owner, "gone")
	refused(t, err, problem.KindNotFound, "", "group not found")
}
