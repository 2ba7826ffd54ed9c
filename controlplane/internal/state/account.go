package state

import (
	"context"
	"net/netip"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// ListAccounts lists the account of the caller.
func (s *State) ListAccounts(_ context.Context, p auth.Principal) (items []api.Account, err error) {
	err = s.reading(p, func(a *account) error {
		items = []api.Account{showAccount(a.row)}
		return nil
	})
	return items, err
}

func showAccount(row store.Account) api.Account {
	return api.Account{
		Id: row.ID, Domain: row.Domain, DomainCategory: "", CreatedAt: row.CreatedAt, CreatedBy: row.CreatedBy,
		Settings:   showNested(showSettings(row)),
		Onboarding: api.Onboarding{OnboardingFlowPending: row.OnboardingFlowPending, SignupFormPending: row.SignupFormPending},
		Version:    row.Version,
	}
}

// GetAccountSettings reads the settings as one flat object.
func (s *State) GetAccountSettings(_ context.Context, p auth.Principal) (answer api.AccountSettings, err error) {
	err = s.reading(p, func(a *account) error {
		answer = showSettings(a.row)
		return nil
	})
	return answer, err
}

// UpdateAccount changes settings in the nested form. What is absent stays.
func (s *State) UpdateAccount(ctx context.Context, p auth.Principal, id string, req api.AccountRequest, ifMatch string) (answer api.Account, err error) {
	if id != p.AccountID {
		return answer, problem.NotFound("account")
	}
	err = s.write(ctx, p, api.PermissionAccountsUpdate, func(w *write) error {
		return w.changeSettings(flatRequest(req.Settings), req.Onboarding, ifMatch, nestedField)
	}, func(a *account) { answer = showAccount(a.row) })
	return answer, err
}

// UpdateAccountSettings merges settings into the present ones (RFC 7396).
func (s *State) UpdateAccountSettings(ctx context.Context, p auth.Principal, req api.AccountSettingsRequest, ifMatch string) (answer api.AccountSettings, err error) {
	err = s.write(ctx, p, api.PermissionAccountsUpdate, func(w *write) error {
		return w.changeSettings(req, nil, ifMatch, flatField)
	}, func(a *account) { answer = showSettings(a.row) })
	return answer, err
}

func (w *write) changeSettings(req api.AccountSettingsRequest, onboarding *api.Onboarding, ifMatch string, field func(name string) string) error {
	if err := checkMatch(ifMatch, "account", w.account.Version); err != nil {
		return err
	}
	wrong := append(req.Validate(), notYet(req, showSettings(w.account))...)
	for i := range wrong {
		wrong[i].Field = field(wrong[i].Field)
	}
	if err := faults(wrong); err != nil {
		return err
	}
	was := w.account
	if req.DnsDomain != nil && *req.DnsDomain != was.DNSDomain {
		if err := w.noZoneOf(*req.DnsDomain, field("dns_domain")); err != nil {
			return err
		}
		w.account.DNSDomain = *req.DnsDomain
	}
	if req.PeerApprovalEnabled != nil {
		w.account.PeerApproval = *req.PeerApprovalEnabled
	}
	if onboarding != nil {
		w.account.OnboardingFlowPending, w.account.SignupFormPending = onboarding.OnboardingFlowPending, onboarding.SignupFormPending
	}
	if req.NetworkRange != nil && *req.NetworkRange != was.Network {
		if err := w.changeRange(*req.NetworkRange, field("network_range")); err != nil {
			return err
		}
	}
	if w.account == was {
		return errUnchanged
	}
	w.account.Version++
	w.settings = true
	return w.note("account.update", w.account.ID, "settings", settingsAudit(was), settingsAudit(w.account))
}

// changeRange takes another network range while no peer has an address of the
// present one. Ordinals begin anew: no retained log names a peer of the new range.
func (w *write) changeRange(text, field string) error {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return problem.Invalid(problem.Field(field, "must be an address range such as 100.92.0.0/16, not %q", text))
	}
	if wrong := ipam.CheckRange(network); wrong != "" {
		return problem.Invalid(problem.Field(field, "%s", wrong))
	}
	peers, err := store.CountPeers(w.ctx, w.tx, w.account.ID)
	if err != nil {
		return err
	}
	if peers > 0 {
		return problem.Invalid(problem.Field(field, "cannot be changed while %d peers are enrolled; remove them first", peers))
	}
	w.account.Network = network.String()
	return nil
}

func settingsAudit(row store.Account) map[string]any {
	return map[string]any{
		"dns_domain": row.DNSDomain, "network_range": row.Network, "peer_approval_enabled": row.PeerApproval,
		"onboarding_flow_pending": row.OnboardingFlowPending, "signup_form_pending": row.SignupFormPending,
	}
}
