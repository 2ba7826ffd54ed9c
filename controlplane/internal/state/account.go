package state

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"

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
	was := w.account
	checks := []error{faults(placed(req.Validate(), field))}
	if req.DnsDomain != nil && *req.DnsDomain != was.DNSDomain {
		checks = append(checks, w.noZoneOf(*req.DnsDomain, field("dns_domain")))
		w.account.DNSDomain = *req.DnsDomain
	}
	if req.PeerApprovalEnabled.IsSpecified() {
		w.account.PeerApproval, _ = req.PeerApprovalEnabled.Get() // null is the default: false
	}
	if onboarding != nil {
		w.account.OnboardingFlowPending, w.account.SignupFormPending = onboarding.OnboardingFlowPending, onboarding.SignupFormPending
	}
	checks = append(checks, w.mergeSettings(req, field))
	if req.NetworkRange != nil && *req.NetworkRange != was.Network {
		checks = append(checks, w.changeRange(*req.NetworkRange, field("network_range")))
	}
	if err := together(checks...); err != nil {
		return err
	}
	if reflect.DeepEqual(auditedSettings(was), auditedSettings(w.account)) {
		return errUnchanged
	}
	w.account.Version++
	w.settings = true
	return w.note("account.update", w.account.ID, settingsName, auditedSettings(was), auditedSettings(w.account))
}

// placed moves faults to where the form of the request has their fields.
func placed(wrong []api.FieldError, field func(name string) string) []api.FieldError {
	for i := range wrong {
		wrong[i].Field = field(wrong[i].Field)
	}
	return wrong
}

// changeRange takes another network range. Every peer keeps its place in the
// range, so the range has to reach as far as the last peer. The agents follow
// the map to their new addresses.
func (w *write) changeRange(text, field string) error {
	from, err := ipam.ParsePool(w.account.Network, w.account.NetworkV6)
	if err != nil {
		return err
	}
	to := from
	if to.V4, err = netip.ParsePrefix(text); err != nil {
		return problem.Invalid(problem.Field(field, "must be an address range such as 100.92.0.0/16, not %q", text))
	}
	if wrong := ipam.CheckRange(to.V4); wrong != "" {
		return problem.Invalid(problem.Field(field, "%s", wrong))
	}
	peers, err := store.AccountPeers(w.ctx, w.tx, w.account.ID)
	if err != nil {
		return err
	}
	outside := 0
	for i := range peers {
		address, err := netip.ParseAddr(peers[i].IP)
		if err != nil {
			return fmt.Errorf("address of peer %s: %w", peers[i].ID, err)
		}
		if address, err = to.At(from.Place(address)); err != nil {
			outside++
			continue
		}
		peers[i].IP, peers[i].Version = address.String(), peers[i].Version+1
	}
	if outside > 0 {
		return problem.Invalid(problem.Field(field, "is too small: %d of the %d peers would have no address; use a shorter prefix", outside, len(peers)))
	}
	w.account.Network = to.V4.String()
	for i := range peers {
		w.change(change{Peer: &peers[i]})
		if err := store.Peers.Update(w.ctx, w.tx, &peers[i]); err != nil {
			return err
		}
	}
	return nil
}
