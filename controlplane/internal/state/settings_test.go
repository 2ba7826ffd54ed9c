package state

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// A client that sends back all it read changes nothing, and every setting can be
// moved on its own, at its own place, and moves no other.
func TestEverySettingIsKept(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	put := func(settings map[string]any) (api.Account, error) {
		text, err := json.Marshal(map[string]any{"settings": settings})
		if err != nil {
			t.Fatal(err)
		}
		var req api.AccountRequest
		if err := json.Unmarshal(text, &req); err != nil {
			t.Fatal(err)
		}
		return f.UpdateAccount(t.Context(), f.owner, f.owner.AccountID, req, "")
	}
	read := func() map[string]any { return members(t, must(f.ListAccounts(t.Context(), f.owner))(t)[0].Settings) }
	account := must(f.ListAccounts(t.Context(), f.owner))(t)[0]
	if after := must(put(read()))(t); after.Version != account.Version || !reflect.DeepEqual(after, account) {
		t.Errorf("%+v became %+v", account, after)
	}
	moved := 0
	move := func(name string, value any, within string) {
		want := map[string]any{
			"dns_domain": "mesh.example", "network_range": "10.20.0.0/16", "peer_login_expiration": 7200.0, "peer_inactivity_expiration": 60.0,
			"jwt_groups_claim_name": "https://example.org/groups", "jwt_allow_groups": []any{"staff", "ops"}, "auto_update_version": "1.2.3",
			"peer_expose_groups": []any{web.Id}, "network_traffic_logs_groups": []any{web.Id},
		}[name]
		if flag, ok := value.(bool); ok {
			want = !flag
		}
		before, asked := read(), map[string]any{name: want}
		if within != "" {
			asked = map[string]any{within: asked}
		}
		if name == "peer_expose_enabled" { // needs a group
			asked["peer_expose_groups"] = []any{web.Id}
		}
		must(put(asked))(t)
		after := read()
		inside := func(m map[string]any) map[string]any {
			if within != "" {
				m, _ = m[within].(map[string]any)
			}
			return m
		}
		if got := inside(after)[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
		inside(after)[name] = inside(before)[name]
		after["peer_expose_groups"], before["peer_expose_groups"] = nil, nil
		if !reflect.DeepEqual(after, before) {
			t.Errorf("%s moved more than itself: %v became %v", name, before, after)
		}
		moved++
	}
	for name, value := range read() {
		if extra, ok := value.(map[string]any); ok {
			for name, value := range extra {
				move(name, value, "extra")
			}
			continue
		}
		move(name, value, "")
	}
	if moved != 21 {
		t.Errorf("%d settings were tried, want 21", moved)
	}
	kept := read()
	second := must(New(t.Context(), f.cfg))(t)
	if again := members(t, must(second.ListAccounts(t.Context(), f.owner))(t)[0].Settings); !reflect.DeepEqual(again, kept) {
		t.Errorf("after a restart %v, before %v", again, kept)
	}
	event := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(1)}))(t)[0]
	if event.Before == nil || event.After == nil || reflect.DeepEqual(*event.Before, *event.After) {
		t.Errorf("the audit tells no change: %v, %v", event.Before, event.After)
	}
}

func members(t *testing.T, value any) (m map[string]any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSettingsAreChecked(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	patch := func(req api.AccountSettingsRequest) error {
		_, err := f.UpdateAccountSettings(t.Context(), f.owner, req, "")
		return err
	}
	refused(t, patch(api.AccountSettingsRequest{PeerLoginExpiration: nullable.NewNullableWithValue(3599)}), problem.KindInvalid, "peer_login_expiration", "3600")
	refused(t, patch(api.AccountSettingsRequest{PeerLoginExpiration: nullable.NewNullableWithValue(15552001)}), problem.KindInvalid, "peer_login_expiration", "15552000")
	refused(t, patch(api.AccountSettingsRequest{PeerInactivityExpiration: nullable.NewNullableWithValue(0)}), problem.KindInvalid, "peer_inactivity_expiration", "1")
	refused(t, patch(api.AccountSettingsRequest{AutoUpdateVersion: nullable.NewNullableWithValue("newest")}), problem.KindInvalid, "auto_update_version", "")
	refused(t, patch(api.AccountSettingsRequest{PeerExposeEnabled: nullable.NewNullableWithValue(true)}), problem.KindInvalid, "peer_expose_groups", "must name a group")
	refused(t, patch(api.AccountSettingsRequest{PeerExposeGroups: nullable.NewNullableWithValue([]string{"gone"})}), problem.KindInvalid, "peer_expose_groups[0]", `unknown group id "gone"`)
	_, err := f.UpdateAccount(t.Context(), f.owner, f.owner.AccountID, api.AccountRequest{Settings: api.NestedSettingsRequest{
		Extra: &api.NestedSettingsExtraRequest{NetworkTrafficLogsGroups: &[]string{"web", web.Id}},
	}}, "")
	refused(t, err, problem.KindInvalid, "settings.extra.network_traffic_logs_groups[1]", "same group")

	// A group that a setting names is in use.
	if err := patch(api.AccountSettingsRequest{PeerExposeEnabled: nullable.NewNullableWithValue(true), PeerExposeGroups: nullable.NewNullableWithValue([]string{"web"})}); err != nil {
		t.Fatal(err)
	}
	refused(t, patch(api.AccountSettingsRequest{PeerExposeGroups: nullable.NewNullableWithValue([]string{})}), problem.KindInvalid, "peer_expose_groups", "must name a group")
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", `group has been linked to account "settings"`)
	if err := patch(api.AccountSettingsRequest{PeerExposeEnabled: nullable.NewNullableWithValue(false), PeerExposeGroups: nullable.NewNullableWithValue([]string{})}); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteGroup(t.Context(), f.owner, web.Id, ""); err != nil {
		t.Fatal(err)
	}
}

// Peers keep their place when the range changes, in the map too.
func TestNetworkRangeMovesPeers(t *testing.T) {
	f := fresh(t)
	patch := func(network string) error {
		_, err := f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{NetworkRange: &network}, "")
		return err
	}
	if err := patch("100.99.0.0/16"); err != nil {
		t.Fatal(err)
	}
	a, b := f.enroll("a"), f.enroll("b")
	must(f.UpdatePeer(t.Context(), f.owner, b.Id, api.PeerRequest{Ip: new("100.99.2.7")}, ""))(t)
	refused(t, patch("10.0.0.0/24"), problem.KindInvalid, "network_range", "1 of the 2 peers")
	if err := patch("10.0.0.0/16"); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{a.Id: "10.0.0.1", b.Id: "10.0.2.7"} {
		peer := must(f.GetPeer(t.Context(), f.owner, id))(t)
		if self := f.selfOf(id); peer.Ip != want || self.Ip != want || self.Network != "10.0.0.0/16" {
			t.Errorf("the peer has %s, its map says %s in %s; want %s", peer.Ip, self.Ip, self.Network, want)
		}
	}
	if c := f.enroll("c"); c.Ip != "10.0.0.3" {
		t.Errorf("the next peer has %s", c.Ip)
	}
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

// Null puts a setting back to that of a new account (RFC 7396), in the flat form;
// in the nested one it is the same as absence.
func TestNullIsTheDefault(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	had := must(f.GetAccountSettings(t.Context(), f.owner))(t)
	var req api.AccountSettingsRequest
	change := func(text string) api.AccountSettings {
		req = api.AccountSettingsRequest{}
		if err := json.Unmarshal([]byte(text), &req); err != nil {
			t.Fatal(err)
		}
		return must(f.UpdateAccountSettings(t.Context(), f.owner, req, ""))(t)
	}
	change(`{"peer_approval_enabled":true,"peer_expose_enabled":true,"peer_expose_groups":["web"],"regular_users_view_blocked":false,"peer_login_expiration":7200,"key_rotation_days":3}`)
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", "settings")
	nested := api.NestedSettingsRequest{}
	if err := json.Unmarshal([]byte(`{"peer_login_expiration":null}`), &nested); err != nil {
		t.Fatal(err)
	}
	if got := must(f.UpdateAccount(t.Context(), f.owner, f.owner.AccountID, api.AccountRequest{Settings: nested}, ""))(t); got.Settings.PeerLoginExpiration != 7200 {
		t.Errorf("null in the nested form changes %d", got.Settings.PeerLoginExpiration)
	}
	got := change(`{"peer_approval_enabled":null,"peer_expose_enabled":null,"peer_expose_groups":null,"regular_users_view_blocked":null,"peer_login_expiration":null,"key_rotation_days":null}`)
	got.Version = had.Version
	if !reflect.DeepEqual(had, got) {
		t.Errorf("had %+v\ngot %+v", had, got)
	}
	if err := f.DeleteGroup(t.Context(), f.owner, web.Id, ""); err != nil {
		t.Errorf("the group is in use still: %v", err)
	}
}
