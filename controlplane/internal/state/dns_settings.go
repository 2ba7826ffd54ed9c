package state

import (
	"context"
	"errors"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// dnsSettingsBody is what is kept of the DNS settings.
type dnsSettingsBody struct {
	Disabled []string `json:"disabled_management_groups"`
}

// dnsSettings is the noun of the DNS settings. An account has one such object, or
// none as long as nobody changed them; its version is then 0.
var dnsSettings = &noun[dnsSettingsBody, api.DnsSettings]{
	kind: "dns-settings", title: "DNS settings",
	creating: api.PermissionDnsUpdate, changing: api.PermissionDnsUpdate, deleting: api.PermissionDnsUpdate,
	in:     func(a *account) *ordered[object[dnsSettingsBody]] { return &a.dns.settings },
	unique: func(name string, _ dnsSettingsBody) (string, string) { return "name", name },
	refs:   func(b dnsSettingsBody) []store.Ref { return groupRefs("disabled_management_groups", b.Disabled) },
	show: func(_ *account, o object[dnsSettingsBody]) api.DnsSettings {
		return api.DnsSettings{DisabledManagementGroups: append([]string{}, o.Body.Disabled...), Version: o.Version}
	},
	compiled: func(_ *account, o object[dnsSettingsBody]) []netmap.Change {
		return []netmap.Change{netmap.DNSSettingsPut{Unmanaged: o.Body.Disabled}}
	},
	gone: func(*account, object[dnsSettingsBody]) []netmap.Change {
		return []netmap.Change{netmap.DNSSettingsPut{}}
	},
}

// dnsSettingsName is the name of the one object; the referrers of a group show it.
const dnsSettingsName = "DNS settings"

func (a *account) showDNSSettings() api.DnsSettings {
	for o := range a.dns.settings.all() {
		return dnsSettings.show(a, o)
	}
	return dnsSettings.show(a, object[dnsSettingsBody]{})
}

// GetDNSSettings reads the DNS settings.
func (s *State) GetDNSSettings(_ context.Context, p auth.Principal) (answer api.DnsSettings, err error) {
	err = s.reading(p, func(a *account) error {
		answer = a.showDNSSettings()
		return nil
	})
	return answer, err
}

// ReplaceDNSSettings replaces the DNS settings.
func (s *State) ReplaceDNSSettings(ctx context.Context, p auth.Principal, req api.DnsSettingsRequest, ifMatch string) (api.DnsSettings, error) {
	return s.changeDNSSettings(ctx, p, &req.DisabledManagementGroups, req.Validate(), ifMatch)
}

// MergeDNSSettings changes what is given of the DNS settings.
func (s *State) MergeDNSSettings(ctx context.Context, p auth.Principal, req api.DnsSettingsPatch, ifMatch string) (api.DnsSettings, error) {
	return s.changeDNSSettings(ctx, p, req.DisabledManagementGroups, req.Validate(), ifMatch)
}

// ResetDNSSettings puts the DNS settings back to those of a new account.
func (s *State) ResetDNSSettings(ctx context.Context, p auth.Principal, ifMatch string) error {
	_, err := s.changeDNSSettings(ctx, p, &[]string{}, nil, ifMatch)
	return err
}

// changeDNSSettings sets the groups without management; nil leaves them as they are.
func (s *State) changeDNSSettings(ctx context.Context, p auth.Principal, groups *[]string, wrong []api.FieldError, ifMatch string) (answer api.DnsSettings, err error) {
	err = s.write(ctx, p, dnsSettings.changing, func(w *write) error {
		row, err := store.FindObjectByKey(w.ctx, w.tx, w.account.ID, dnsSettings.kind, dnsSettingsName)
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return err
		}
		if err := checkMatch(ifMatch, dnsSettings.title, row.Version); err != nil {
			return err
		}
		if err := faults(wrong); err != nil {
			return err
		}
		if groups == nil {
			return errUnchanged
		}
		ids, err := w.groupIDs("disabled_management_groups", *groups)
		if err != nil {
			return err
		}
		return w.setDNSSettings(row, dnsSettingsBody{Disabled: ids})
	}, func(a *account) { answer = a.showDNSSettings() })
	return answer, err
}

// setDNSSettings writes the settings in place of row, which is empty for those of a new account.
func (w *write) setDNSSettings(row store.Object, body dnsSettingsBody) error {
	before := dnsSettingsBody{Disabled: []string{}}
	if row.ID == "" {
		if len(body.Disabled) == 0 {
			return errUnchanged
		}
		if _, err := dnsSettings.insert(w, dnsSettingsName, body); err != nil {
			return err
		}
	} else {
		had, err := dnsSettings.read(row)
		if err != nil {
			return err
		}
		before = had.Body
		if err := dnsSettings.replace(w, row, dnsSettingsName, body); err != nil {
			return err
		}
	}
	return w.note("dns-settings.update", w.account.ID, dnsSettingsName, before, body)
}
