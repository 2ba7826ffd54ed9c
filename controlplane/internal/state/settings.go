package state

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// effectiveSettings are the settings that change something. The contract knows
// more, since existing clients need them present: each of those has the value
// that describes what the product does, and keeps it.
var effectiveSettings = []string{"dns_domain", "network_range", "peer_approval_enabled"}

// Values of settings without an effect yet: what existing clients show as the
// usual life of a login while its expiry is off, in seconds.
const (
	loginLife      = 24 * 60 * 60
	inactivityLife = 10 * 60
)

func showSettings(row store.Account) api.AccountSettings {
	return api.AccountSettings{
		DnsDomain: row.DNSDomain, NetworkRange: row.Network, NetworkRangeV6: row.NetworkV6, PeerApprovalEnabled: row.PeerApproval, Version: row.Version,
		PeerLoginExpiration: loginLife, PeerInactivityExpiration: inactivityLife, RegularUsersViewBlocked: true, AutoUpdateVersion: "disabled",
		JwtAllowGroups: []string{}, PeerExposeGroups: []string{}, NetworkTrafficLogsGroups: []string{},
	}
}

// showNested is the form of the settings that older clients know.
func showNested(s api.AccountSettings) api.NestedSettings {
	return api.NestedSettings{
		DnsDomain: s.DnsDomain, NetworkRange: s.NetworkRange, PeerLoginExpirationEnabled: s.PeerLoginExpirationEnabled,
		PeerLoginExpiration: s.PeerLoginExpiration, PeerInactivityExpirationEnabled: s.PeerInactivityExpirationEnabled,
		PeerInactivityExpiration: s.PeerInactivityExpiration, RegularUsersViewBlocked: s.RegularUsersViewBlocked,
		GroupsPropagationEnabled: s.GroupsPropagationEnabled, JwtGroupsEnabled: s.JwtGroupsEnabled, JwtGroupsClaimName: s.JwtGroupsClaimName,
		JwtAllowGroups: s.JwtAllowGroups, RoutingPeerDnsResolutionEnabled: s.RoutingPeerDnsResolutionEnabled,
		LazyConnectionEnabled: s.LazyConnectionEnabled, AutoUpdateVersion: s.AutoUpdateVersion, PeerExposeEnabled: s.PeerExposeEnabled,
		PeerExposeGroups: s.PeerExposeGroups,
		Extra: api.NestedSettingsExtra{
			PeerApprovalEnabled: s.PeerApprovalEnabled, UserApprovalRequired: s.UserApprovalRequired,
			NetworkTrafficLogsEnabled: s.NetworkTrafficLogsEnabled, NetworkTrafficLogsGroups: s.NetworkTrafficLogsGroups,
			NetworkTrafficPacketCounterEnabled: s.NetworkTrafficPacketCounterEnabled,
		},
	}
}

// flatRequest is a change in the nested form as one in the flat form.
func flatRequest(r api.NestedSettingsRequest) api.AccountSettingsRequest {
	flat := api.AccountSettingsRequest{
		DnsDomain: r.DnsDomain, NetworkRange: r.NetworkRange, PeerLoginExpirationEnabled: r.PeerLoginExpirationEnabled,
		PeerLoginExpiration: r.PeerLoginExpiration, PeerInactivityExpirationEnabled: r.PeerInactivityExpirationEnabled,
		PeerInactivityExpiration: r.PeerInactivityExpiration, RegularUsersViewBlocked: r.RegularUsersViewBlocked,
		GroupsPropagationEnabled: r.GroupsPropagationEnabled, JwtGroupsEnabled: r.JwtGroupsEnabled, JwtGroupsClaimName: r.JwtGroupsClaimName,
		JwtAllowGroups: r.JwtAllowGroups, RoutingPeerDnsResolutionEnabled: r.RoutingPeerDnsResolutionEnabled,
		LazyConnectionEnabled: r.LazyConnectionEnabled, AutoUpdateVersion: r.AutoUpdateVersion, PeerExposeEnabled: r.PeerExposeEnabled,
		PeerExposeGroups: r.PeerExposeGroups,
	}
	if x := r.Extra; x != nil {
		flat.PeerApprovalEnabled, flat.UserApprovalRequired = x.PeerApprovalEnabled, x.UserApprovalRequired
		flat.NetworkTrafficLogsEnabled, flat.NetworkTrafficLogsGroups = x.NetworkTrafficLogsEnabled, x.NetworkTrafficLogsGroups
		flat.NetworkTrafficPacketCounterEnabled = x.NetworkTrafficPacketCounterEnabled
	}
	return flat
}

func flatField(name string) string { return name }

// nestedField is the place of a setting in the nested form.
func nestedField(name string) string {
	for field := range reflect.TypeFor[api.NestedSettingsExtraRequest]().Fields() {
		if setting, _, _ := strings.Cut(name, "["); jsonName(field) == setting {
			return "settings.extra." + name
		}
	}
	return "settings." + name
}

// notYet refuses to move a setting that has no effect away from its present
// value. A client that sends all it read changes nothing and is not refused.
func notYet(req api.AccountSettingsRequest, present api.AccountSettings) (wrong []api.FieldError) {
	asked, have := reflect.ValueOf(req), reflect.ValueOf(present)
	for field := range asked.Type().Fields() {
		name, value := jsonName(field), asked.FieldByIndex(field.Index)
		if value.IsNil() || slices.Contains(effectiveSettings, name) {
			continue
		}
		now := have.FieldByName(field.Name)
		if same(value.Elem(), now) {
			continue
		}
		wrong = append(wrong, api.FieldError{Field: name, Detail: fmt.Sprintf("is not available yet and stays %v; leave it out", shown(now))})
	}
	return wrong
}

func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// shown writes a value as JSON does, for the few kinds that settings have.
func shown(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	case reflect.Slice:
		return "[]"
	}
	return fmt.Sprint(v.Interface())
}

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}
