package state

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// settingsName is how texts call the settings of an account.
const settingsName = "settings"

// Values of settings that nobody set, in seconds: a day for a login, ten minutes
// for an absence.
const (
	loginLife      = 24 * 60 * 60
	inactivityLife = 10 * 60
)

// showSettings overlays the defaults with what was set. The text of the row was
// written by mergeSettings and read once when the account was loaded.
func showSettings(row store.Account) api.AccountSettings {
	shown := api.AccountSettings{
		PeerLoginExpiration: loginLife, PeerInactivityExpiration: inactivityLife, RegularUsersViewBlocked: true, AutoUpdateVersion: "disabled",
		RoutingPeerDnsResolutionEnabled: true, LazyConnectionEnabled: true,
		PostQuantumMode: api.AccountSettingsPostQuantumModeOff,
		JwtAllowGroups:  []string{}, PeerExposeGroups: []string{}, NetworkTrafficLogsGroups: []string{},
	}
	_ = json.Unmarshal([]byte(row.Settings), &shown)
	shown.DnsDomain, shown.NetworkRange, shown.NetworkRangeV6 = row.DNSDomain, row.Network, row.NetworkV6
	shown.PeerApprovalEnabled, shown.Version = row.PeerApproval, row.Version
	return shown
}

// mergeSettings merges the settings that have no column of their own (RFC 7396)
// and checks them together. What is null is kept no longer: its default is seen.
func (w *write) mergeSettings(req api.AccountSettingsRequest, field func(name string) string) error {
	var checks []error
	for _, list := range []struct {
		name string
		ids  *nullable.Nullable[[]string]
	}{{"peer_expose_groups", &req.PeerExposeGroups}, {"network_traffic_logs_groups", &req.NetworkTrafficLogsGroups}} {
		texts, err := list.ids.Get()
		if err != nil { // absent or null
			continue
		}
		ids, err := w.groupIDs(field(list.name), texts)
		checks = append(checks, err)
		list.ids.Set(ids)
	}
	if err := together(checks...); err != nil {
		return err
	}
	req.DnsDomain, req.NetworkRange, req.PeerApprovalEnabled = nil, nil, nil
	merged, err := mergePatch(w.account.Settings, req)
	if err != nil {
		return fmt.Errorf("settings of account %s: %w", w.account.ID, err)
	}
	w.account.Settings = merged
	settings := showSettings(w.account)
	if settings.PeerExposeEnabled && len(settings.PeerExposeGroups) == 0 {
		return problem.Invalid(problem.Field(field("peer_expose_groups"), "must name a group while peer_expose_enabled is true"))
	}
	return store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindAccount, w.account.ID, settingsRefs(settings))
}

// mergePatch merges the members of a change into the object that text holds: null
// removes one (RFC 7396, section 2).
func mergePatch(text string, change any) (string, error) {
	asked, err := json.Marshal(change)
	if err != nil {
		return "", err
	}
	kept, patch := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := cmp.Or(json.Unmarshal([]byte(text), &kept), json.Unmarshal(asked, &patch)); err != nil {
		return "", err
	}
	for name, value := range patch {
		if kept[name] = value; string(value) == "null" {
			delete(kept, name)
		}
	}
	merged, err := json.Marshal(kept)
	return string(merged), err
}

func settingsRefs(s api.AccountSettings) (refs []store.Ref) {
	for field, ids := range map[string][]string{"peer_expose_groups": s.PeerExposeGroups, "network_traffic_logs_groups": s.NetworkTrafficLogsGroups} {
		for _, id := range ids {
			refs = append(refs, store.Ref{Field: field, ToKind: store.KindGroup, ToID: id})
		}
	}
	return refs
}

// settingsAudit is the settings in an audit event.
type settingsAudit struct {
	api.NestedSettings
	api.Onboarding
	KeyRotationDays int                                `json:"key_rotation_days"`
	PostQuantumMode api.AccountSettingsPostQuantumMode `json:"post_quantum_mode"`
}

func auditedSettings(row store.Account) settingsAudit {
	settings := showSettings(row)
	onboarding := api.Onboarding{OnboardingFlowPending: row.OnboardingFlowPending, SignupFormPending: row.SignupFormPending}
	return settingsAudit{showNested(settings), onboarding, settings.KeyRotationDays, settings.PostQuantumMode}
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

// maybe is what a pointer points at, or nothing.
func maybe[T any](p *T) (n nullable.Nullable[T]) {
	if p != nil {
		n.Set(*p)
	}
	return n
}

// flatRequest is a change in the nested form as one in the flat form. There, null
// leaves a setting as it is, as absence does.
func flatRequest(r api.NestedSettingsRequest) api.AccountSettingsRequest {
	flat := api.AccountSettingsRequest{
		DnsDomain: r.DnsDomain, NetworkRange: r.NetworkRange, PeerLoginExpirationEnabled: maybe(r.PeerLoginExpirationEnabled),
		PeerLoginExpiration: maybe(r.PeerLoginExpiration), PeerInactivityExpirationEnabled: maybe(r.PeerInactivityExpirationEnabled),
		PeerInactivityExpiration: maybe(r.PeerInactivityExpiration), RegularUsersViewBlocked: maybe(r.RegularUsersViewBlocked),
		GroupsPropagationEnabled: maybe(r.GroupsPropagationEnabled), JwtGroupsEnabled: maybe(r.JwtGroupsEnabled), JwtGroupsClaimName: maybe(r.JwtGroupsClaimName),
		JwtAllowGroups: maybe(r.JwtAllowGroups), RoutingPeerDnsResolutionEnabled: maybe(r.RoutingPeerDnsResolutionEnabled),
		LazyConnectionEnabled: maybe(r.LazyConnectionEnabled), AutoUpdateVersion: maybe(r.AutoUpdateVersion), PeerExposeEnabled: maybe(r.PeerExposeEnabled),
		PeerExposeGroups: maybe(r.PeerExposeGroups),
	}
	if x := r.Extra; x != nil {
		flat.PeerApprovalEnabled, flat.UserApprovalRequired = maybe(x.PeerApprovalEnabled), maybe(x.UserApprovalRequired)
		flat.NetworkTrafficLogsEnabled, flat.NetworkTrafficLogsGroups = maybe(x.NetworkTrafficLogsEnabled), maybe(x.NetworkTrafficLogsGroups)
		flat.NetworkTrafficPacketCounterEnabled = maybe(x.NetworkTrafficPacketCounterEnabled)
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

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}
