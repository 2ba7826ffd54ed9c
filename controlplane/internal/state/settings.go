package state

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

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
		PostQuantumMode: api.AccountSettingsPostQuantumModeOff,
		JwtAllowGroups:  []string{}, PeerExposeGroups: []string{}, NetworkTrafficLogsGroups: []string{},
	}
	_ = json.Unmarshal([]byte(row.Settings), &shown)
	shown.DnsDomain, shown.NetworkRange, shown.NetworkRangeV6 = row.DNSDomain, row.Network, row.NetworkV6
	shown.PeerApprovalEnabled, shown.Version = row.PeerApproval, row.Version
	return shown
}

// mergeSettings merges the settings that have no column of their own (RFC 7396)
// and checks them together.
func (w *write) mergeSettings(req api.AccountSettingsRequest, field func(name string) string) error {
	for _, list := range []struct {
		name string
		ids  *[]string
	}{{"peer_expose_groups", req.PeerExposeGroups}, {"network_traffic_logs_groups", req.NetworkTrafficLogsGroups}} {
		if list.ids == nil {
			continue
		}
		var err error
		if *list.ids, err = w.settingsGroups(field(list.name), *list.ids); err != nil {
			return err
		}
	}
	var kept api.AccountSettingsRequest
	if err := json.Unmarshal([]byte(w.account.Settings), &kept); err != nil {
		return fmt.Errorf("settings of account %s: %w", w.account.ID, err)
	}
	req.DnsDomain, req.NetworkRange, req.PeerApprovalEnabled = nil, nil, nil
	asked, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(asked, &kept); err != nil { // absent members leave kept alone
		return err
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	w.account.Settings = string(text)
	settings := showSettings(w.account)
	if settings.PeerExposeEnabled && len(settings.PeerExposeGroups) == 0 {
		return problem.Invalid(problem.Field(field("peer_expose_groups"), "must name a group while peer_expose_enabled is true"))
	}
	return store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindAccount, w.account.ID, settingsRefs(settings))
}

// settingsGroups resolves groups that a setting names.
func (w *write) settingsGroups(field string, texts []string) ([]string, error) {
	var asked groupTexts
	asked.add(field, texts)
	ids, _, wrong, err := w.resolve(asked)
	if err != nil || len(wrong) > 0 {
		return nil, cmp.Or(err, faults(nil, wrong...))
	}
	list, wrong := resolved(field, texts, ids)
	return list, faults(nil, wrong...)
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

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}
