package state

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/hash"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// A NewOwner says who the owner of a fresh installation is.
type NewOwner struct {
	Email, Name string

	// Password may be empty: the owner then signs in with tokens only.
	Password string

	// TokenDays is the life of a first access token; 0 makes none.
	TokenDays int
}

// A FreshNetwork is what the first start made. Its secrets are shown once; Token
// is empty when none was asked for.
type FreshNetwork struct {
	UserID, AccountID                       string
	Token, OneOffSetupKey, ReusableSetupKey string
}

// Ready asks the store whether it answers: what is read comes from memory, and
// would go on while nothing can be kept.
func (s *State) Ready(ctx context.Context) error {
	return s.store.Read(ctx, func(tx *store.Tx) error {
		_, err := store.AllAccounts(ctx, tx)
		return err
	})
}

// GetInstance tells whether the installation still needs its owner.
func (s *State) GetInstance(context.Context) (api.Instance, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return api.Instance{SetupRequired: len(s.accounts) == 0}, nil
}

// SetupInstance creates the owner over the API.
func (s *State) SetupInstance(ctx context.Context, req api.SetupRequest) (answer api.SetupResult, err error) {
	if instance, _ := s.GetInstance(ctx); !instance.SetupRequired {
		return answer, problem.SetupDone()
	}
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	owner := NewOwner{Email: req.Email, Name: req.Name, Password: req.Password}
	if *req.CreatePat {
		owner.TokenDays = *req.PatExpireIn
	}
	made, err := s.SetUp(ctx, auth.Principal{Channel: auth.ChannelAPI}, owner)
	if err != nil {
		return answer, err
	}
	answer = api.SetupResult{UserId: made.UserID, Email: req.Email}
	if made.Token != "" {
		answer.PersonalAccessToken = &made.Token
	}
	return answer, nil
}

// SetUp makes the owner and a new network: an account with the group All, a
// removable policy that allows everything, a one-off and a reusable setup key.
// Of any number of calls one wins; afterwards the answer is setup-done for ever.
func (s *State) SetUp(ctx context.Context, p auth.Principal, owner NewOwner) (made FreshNetwork, err error) {
	if instance, _ := s.GetInstance(ctx); !instance.SetupRequired {
		return made, problem.SetupDone()
	}
	var password string
	if owner.Password != "" {
		if password, err = hash.Password(ctx, owner.Password); err != nil {
			return made, fmt.Errorf("hash password: %w", err)
		}
	}
	var adopted error
	err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
		w := &write{ctx: context.WithoutCancel(ctx), tx: tx, p: p, now: now(), touched: map[string]bool{}, settings: true, keys: s.cfg.Keys}
		w.account = s.newNetwork(w.now)
		won, err := store.ClaimInstallation(w.ctx, tx, w.account.ID, w.now)
		if err != nil {
			return err
		}
		if !won {
			return problem.SetupDone()
		}
		made, err = w.setUp(owner, password)
		tx.After(func() { adopted = s.adopt(w) })
		return err
	})
	return made, asProblem(cmp.Or(err, adopted))
}

func (s *State) newNetwork(at time.Time) store.Account {
	pool := ipam.NewPool()
	return store.Account{
		ID: newID(), Serial: 1, Epoch: newEpoch(at), Version: 1, NextOrdinal: ipam.FirstOrdinal, Network: pool.V4.String(), NetworkV6: pool.V6.String(),
		DNSDomain: s.cfg.DNSDomain, Settings: "{}", CreatedAt: at,
	}
}

// newEpoch names a history of serials: a time in milliseconds, so that epochs are
// ordered, and random bits, so that they do not collide.
func newEpoch(at time.Time) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Sprintf("%012x-%s", at.UnixMilli(), hex.EncodeToString(b[:]))
}

// setUp writes everything that a new network begins with.
func (w *write) setUp(owner NewOwner, password string) (made FreshNetwork, err error) {
	u := store.User{
		ID: newID(), AccountID: w.account.ID, Seq: w.seq(), Email: owner.Email, Name: owner.Name, Role: auth.RoleOwner, PasswordHash: password,
		AutoGroups: []string{}, CreatedAt: w.now, Version: 1,
	}
	w.account.CreatedBy = u.ID
	w.p.Kind, w.p.ID, w.p.Name, w.p.Email, w.p.AccountID = auth.KindUser, u.ID, u.Name, u.Email, w.account.ID
	made.UserID, made.AccountID = u.ID, w.account.ID
	if err := store.Accounts.Insert(w.ctx, w.tx, &w.account); err != nil {
		return made, err
	}
	w.change(change{User: &u})
	if err := store.Users.Insert(w.ctx, w.tx, &u); err != nil {
		return made, err
	}
	all, err := w.insertGroup(allGroup)
	if err != nil {
		return made, err
	}
	if _, err := policies.insert(w, "Default", w.allowAll(all.ID)); err != nil {
		return made, err
	}
	if err := w.firstSecrets(owner, &made); err != nil {
		return made, err
	}
	if err := w.note("account.create", w.account.ID, owner.Email, nil, auditedSettings(w.account)); err != nil {
		return made, err
	}
	return made, w.finish()
}

func (w *write) allowAll(all string) policyBody {
	return policyBody{
		Description: "Lets every machine reach every other one. Remove it to deny by default.", Enabled: true,
		Rules: []ruleBody{{
			ID: newID(), Name: "Default", Enabled: true, Action: api.PolicyRuleActionAccept, Bidirectional: true, Protocol: api.PolicyRuleProtocolAll,
			Sources: []string{all}, Destinations: []string{all},
		}},
	}
}

func (w *write) firstSecrets(owner NewOwner, made *FreshNetwork) error {
	for _, k := range []struct {
		name string
		kind api.SetupKeyRequestType
		into *string
	}{
		{"One-off key", api.SetupKeyRequestTypeOneOff, &made.OneOffSetupKey},
		{"Default key", api.SetupKeyRequestTypeReusable, &made.ReusableSetupKey},
	} {
		req := api.SetupKeyRequest{Name: k.name, Type: &k.kind}
		req.ApplyDefaults()
		if err := checkSetupKey(&req); err != nil {
			return err
		}
		_, secret, err := w.insertSetupKey(req, []string{})
		if err != nil {
			return err
		}
		*k.into = secret.Reveal()
	}
	if owner.TokenDays == 0 {
		return nil
	}
	_, secret, err := w.insertToken(made.UserID, made.UserID, api.TokenRequest{Name: "First token", ExpiresIn: owner.TokenDays})
	made.Token = secret.Reveal()
	return err
}
