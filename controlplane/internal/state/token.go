package state

import (
	"context"
	"sync"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// tokenTouch is how often the use of a token is written at most.
const tokenTouch = time.Minute

// A tokenUse finds a token by the hash of its secret.
type tokenUse struct {
	sum                [32]byte
	accountID, tokenID string

	mu      sync.Mutex // guards touched
	touched time.Time
}

// touch notes the use of a token. It moves no serial and nobody waits for it.
func (s *State) touch(ctx context.Context, a *account, use *tokenUse) {
	at := now()
	use.mu.Lock()
	due := at.Sub(use.touched) >= tokenTouch
	if due {
		use.touched = at
	}
	use.mu.Unlock()
	if !due {
		return
	}
	err := s.store.WriteLater(ctx, func(tx *store.Tx) error {
		tx.After(func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			if t, ok := a.tokens.get(use.tokenID); ok {
				t.LastUsed = at
				a.tokens.put(t.ID, t.Seq, t)
			}
		})
		return store.TouchToken(context.WithoutCancel(ctx), tx, use.tokenID, at)
	})
	if err != nil {
		s.cfg.Logger.Debug("use of a token was not noted", "error", err)
	}
}

func (a *account) showToken(t store.Token) api.Token {
	shown := api.Token{
		Id: t.ID, Name: t.Name, UserId: t.UserID, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpirationDate: t.ExpiresAt,
		ExpiresIn: t.ExpiresIn, ManagedBy: a.managedBy(t.ID), Version: t.Version,
	}
	if !t.LastUsed.IsZero() {
		shown.LastUsed = &t.LastUsed
	}
	return shown
}

// mayHold refuses the tokens of other people: only those of oneself and, for
// owners and admins, those of service users.
func mayHold(p auth.Principal, u store.User) error {
	if u.ID == p.ID || p.Kind == auth.KindSystem || u.IsServiceUser && (p.Role == auth.RoleOwner || p.Role == auth.RoleAdmin) {
		return nil
	}
	return problem.Denied("the tokens of another person are out of reach; sign in as that person")
}

// holder finds the user whose tokens are asked for.
func (a *account) holder(p auth.Principal, userID string) error {
	u, ok := a.users.get(userID)
	if !ok {
		return problem.NotFound("user")
	}
	return mayHold(p, u)
}

// ListTokens lists the tokens of a user.
func (s *State) ListTokens(_ context.Context, p auth.Principal, userID string, params api.ListTokensParams) (items []api.Token, next string, err error) {
	err = s.reading(p, func(a *account) error {
		if err := a.holder(p, userID); err != nil {
			return err
		}
		items, next, err = list(&a.tokens, page{params.Ids, params.Limit, params.Cursor}, func(t store.Token) bool {
			return t.UserID == userID && (params.Name == nil || t.Name == *params.Name)
		}, a.showToken)
		return err
	})
	return items, next, err
}

// GetToken reads a token of a user.
func (s *State) GetToken(_ context.Context, p auth.Principal, userID, id string) (answer api.Token, err error) {
	err = s.reading(p, func(a *account) error {
		if err := a.holder(p, userID); err != nil {
			return err
		}
		t, ok := a.tokens.get(id)
		if !ok || t.UserID != userID {
			return problem.NotFound("token")
		}
		answer = a.showToken(t)
		return nil
	})
	return answer, err
}

// CreateToken creates an access token. The answer holds its secret.
func (s *State) CreateToken(ctx context.Context, p auth.Principal, userID string, req api.TokenRequest) (answer api.TokenCreated, err error) {
	req.ApplyDefaults()
	var id string
	var secret token.Secret
	err = s.write(ctx, p, api.PermissionTokensCreate, func(w *write) error {
		if err := w.holder(userID); err != nil {
			return err
		}
		if err := w.mayRenew(); err != nil {
			return err
		}
		if err := faults(req.Validate()); err != nil {
			return err
		}
		t, made, err := w.insertToken(userID, w.p.ID, req)
		if err != nil {
			return err
		}
		id, secret, w.shownOnce = t.ID, made, made.Reveal()
		return w.note("token.create", id, t.Name, nil, tokenAudit(t))
	}, func(a *account) {
		answer = a.showNewToken(a.tokens.byID[id], secret.Reveal())
	})
	return answer, err
}

// showNewToken shows a token with its secret.
func (a *account) showNewToken(kept store.Token, secret string) api.TokenCreated {
	t := a.showToken(kept)
	return api.TokenCreated{
		Id: t.Id, Name: t.Name, UserId: t.UserId, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpirationDate: t.ExpirationDate,
		ExpiresIn: t.ExpiresIn, ManagedBy: t.ManagedBy, Version: t.Version, PlainToken: secret, PersonalAccessToken: t,
	}
}

func (w *write) holder(userID string) error {
	u, err := store.FindUser(w.ctx, w.tx, w.account.ID, userID)
	if u, err = found(u, err, "user"); err != nil {
		return err
	}
	return mayHold(w.p, u)
}

// mayRenew keeps service users from making tokens: a stolen one would never end.
func (w *write) mayRenew() error {
	if w.p.Kind != auth.KindServiceUser || w.p.Role == auth.RoleAdmin {
		return nil
	}
	return problem.Denied("the tokens of a service user are made by admins; ask one for a new token")
}

func (w *write) insertToken(userID, createdBy string, req api.TokenRequest) (t store.Token, secret token.Secret, err error) {
	secret = token.New(token.Access)
	sum := secret.Sum()
	t = store.Token{
		ID: newID(), AccountID: w.account.ID, UserID: userID, Seq: w.seq(), Name: req.Name, SHA256: sum[:], Hint: secret.Hint(), CreatedBy: createdBy,
		CreatedAt: w.now, ExpiresAt: w.now.Add(time.Duration(req.ExpiresIn) * 24 * time.Hour), ExpiresIn: req.ExpiresIn, Version: 1,
	}
	w.change(change{Token: &t})
	return t, secret, store.Tokens.Insert(w.ctx, w.tx, &t)
}

// DeleteToken removes a token; the next request that carries it is refused.
func (s *State) DeleteToken(ctx context.Context, p auth.Principal, userID, id, ifMatch string) error {
	return s.write(ctx, p, api.PermissionTokensDelete, func(w *write) error {
		if err := w.holder(userID); err != nil {
			return err
		}
		t, err := store.FindToken(w.ctx, w.tx, w.account.ID, userID, id)
		if t, err = found(t, err, "token"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, "token", t.Version); err != nil {
			return err
		}
		w.change(change{Token: &t, Remove: true})
		if err := store.Tokens.Delete(w.ctx, w.tx, id); err != nil {
			return err
		}
		return w.note("token.delete", id, t.Name, tokenAudit(t), nil)
	}, func(*account) {})
}

func tokenAudit(t store.Token) map[string]any {
	return map[string]any{"name": t.Name, "user_id": t.UserID, "expires_in": t.ExpiresIn, "hint": t.Hint}
}
