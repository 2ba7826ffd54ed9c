package state

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// shownChars is how much of a setup key lists show.
const shownChars = 5

func (a *account) showSetupKey(k store.SetupKey) api.SetupKey {
	state := keyState(k, now())
	groups := slices.Clone(k.AutoGroups)
	if groups == nil {
		groups = []string{}
	}
	return api.SetupKey{
		Id: k.ID, Key: k.Hint + strings.Repeat("*", 35), Name: k.Name, Type: api.SetupKeyType(k.Type), Expires: k.ExpiresAt, ExpiresIn: k.ExpiresIn,
		State: state, Valid: state == api.SetupKeyStateValid, Revoked: k.Revoked, UsedTimes: k.UsedTimes, LastUsed: k.LastUsed, UpdatedAt: k.UpdatedAt,
		AutoGroups: groups, UsageLimit: k.UsageLimit, Ephemeral: k.Ephemeral, AllowExtraDnsLabels: k.AllowExtraDNSLabels, ManagedBy: a.managedBy(k.ID), Version: k.Version,
	}
}

func keyState(k store.SetupKey, at time.Time) api.SetupKeyState {
	switch {
	case k.Revoked:
		return api.SetupKeyStateRevoked
	case !k.ExpiresAt.IsZero() && !at.Before(k.ExpiresAt):
		return api.SetupKeyStateExpired
	case k.UsageLimit > 0 && k.UsedTimes >= k.UsageLimit:
		return api.SetupKeyStateOverused
	}
	return api.SetupKeyStateValid
}

// ListSetupKeys lists the setup keys; secrets are masked.
func (s *State) ListSetupKeys(_ context.Context, p auth.Principal, params api.ListSetupKeysParams) (items []api.SetupKey, next string, err error) {
	err = s.reading(p, func(a *account) error {
		items, next, err = list(&a.keys, page{params.Ids, params.Limit, params.Cursor},
			named(params.Name, func(k store.SetupKey) string { return k.Name }), a.showSetupKey)
		return err
	})
	return items, next, err
}

// GetSetupKey reads a setup key; its secret is masked.
func (s *State) GetSetupKey(_ context.Context, p auth.Principal, id string) (answer api.SetupKey, err error) {
	err = s.reading(p, func(a *account) error {
		k, ok := a.keys.get(id)
		if !ok {
			return problem.NotFound("setup key")
		}
		answer = a.showSetupKey(k)
		return nil
	})
	return answer, err
}

// CreateSetupKey creates a setup key. The answer holds the secret in clear.
func (s *State) CreateSetupKey(ctx context.Context, p auth.Principal, req api.SetupKeyRequest) (answer api.SetupKey, err error) {
	req.ApplyDefaults()
	if err := checkSetupKey(&req); err != nil {
		return answer, err
	}
	var id string
	var secret token.Secret
	err = s.write(ctx, p, api.PermissionSetupKeysCreate, func(w *write) error {
		groups, err := w.autoGroups(*req.AutoGroups, true)
		if err != nil {
			return err
		}
		k, made, err := w.insertSetupKey(req, groups)
		if err != nil {
			return err
		}
		id, secret, w.shownOnce = k.ID, made, made.Reveal()
		return w.note("setup-key.create", id, k.Name, nil, keyAudit(k))
	}, func(a *account) {
		answer = a.showSetupKey(a.keys.byID[id])
		answer.Key = secret.Reveal()
	})
	return answer, err
}

// checkSetupKey applies the rules of the usage limit: a one-off key has one use.
func checkSetupKey(req *api.SetupKeyRequest) error {
	var more []problem.FieldError
	limit := 0
	if req.UsageLimit != nil {
		limit = *req.UsageLimit
	}
	if *req.Type == api.SetupKeyRequestTypeOneOff {
		if limit > 1 {
			more = append(more, problem.Field("usage_limit", "a one-off key has one use, not %d; make a reusable key", limit))
		}
		limit = 1
	}
	req.UsageLimit = &limit
	return faults(req.Validate(), more...)
}

func (w *write) insertSetupKey(req api.SetupKeyRequest, groups []string) (k store.SetupKey, secret token.Secret, err error) {
	secret = token.New(token.SetupKey)
	sum := secret.Sum()
	k = store.SetupKey{
		ID: newID(), AccountID: w.account.ID, Seq: w.seq(), Name: req.Name, Type: string(*req.Type), SHA256: sum[:], Hint: secret.Head(shownChars),
		ExpiresIn: *req.ExpiresIn, UsageLimit: *req.UsageLimit, Revoked: *req.Revoked, Ephemeral: *req.Ephemeral,
		AllowExtraDNSLabels: *req.AllowExtraDnsLabels, AutoGroups: groups, CreatedAt: w.now, UpdatedAt: w.now, Version: 1,
	}
	if k.ExpiresIn > 0 {
		k.ExpiresAt = w.now.Add(time.Duration(k.ExpiresIn) * time.Second)
	}
	w.change(change{SetupKey: &k})
	if err := store.SetupKeys.Insert(w.ctx, w.tx, &k); err != nil {
		return k, secret, err
	}
	return k, secret, w.keyRefs(k)
}

func (w *write) keyRefs(k store.SetupKey) error {
	refs := make([]store.Ref, len(k.AutoGroups))
	for i, id := range k.AutoGroups {
		refs[i] = store.Ref{Field: "auto_groups", ToKind: store.KindGroup, ToID: id}
	}
	return store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindSetupKey, k.ID, refs)
}

// autoGroups resolves the groups that enrolled machines join. An unknown group is
// not found for a new key, as existing clients know it, and invalid in a change.
func (w *write) autoGroups(texts []string, create bool) ([]string, error) {
	var asked groupTexts
	asked.add("auto_groups", texts)
	ids, all, wrong, err := w.resolve(asked)
	if err != nil {
		return nil, err
	}
	if len(wrong) > 0 {
		if create {
			unknown := problem.NotFound("group")
			unknown.Errors = wrong
			return nil, unknown
		}
		return nil, faults(nil, wrong...)
	}
	list, wrong := resolved("auto_groups", texts, ids)
	for i, id := range list {
		if id == all {
			wrong = append(wrong, problem.Field(asked.fields[i], "the group %s holds every machine anyway; leave it out", allGroup))
		}
	}
	return list, faults(nil, wrong...)
}

// UpdateSetupKey changes the automatic groups of a key or revokes it.
func (s *State) UpdateSetupKey(ctx context.Context, p auth.Principal, id string, req api.SetupKeyUpdate, ifMatch string) (answer api.SetupKey, err error) {
	err = s.write(ctx, p, api.PermissionSetupKeysUpdate, func(w *write) error {
		k, err := w.setupKey(id, ifMatch)
		if err != nil {
			return err
		}
		if req.AutoGroups == nil {
			return problem.Malformed("auto_groups must be given; send [] for none", problem.Field("auto_groups", "must be given"))
		}
		revoked := k.Revoked
		if req.Revoked != nil {
			revoked = *req.Revoked
		}
		more := slices.Concat(
			unchanged("name", req.Name, k.Name), unchanged("type", req.Type, k.Type), unchanged("expires_in", req.ExpiresIn, k.ExpiresIn),
			unchanged("usage_limit", req.UsageLimit, k.UsageLimit), unchanged("ephemeral", req.Ephemeral, k.Ephemeral),
			unchanged("allow_extra_dns_labels", req.AllowExtraDnsLabels, k.AllowExtraDNSLabels),
		)
		if k.Revoked && !revoked {
			more = append(more, problem.Field("revoked", "a revoked key stays revoked; make a new key"))
		}
		if err := faults(req.Validate(), more...); err != nil {
			return err
		}
		groups, err := w.autoGroups(req.AutoGroups, false)
		if err != nil {
			return err
		}
		return w.changeKey(k, groups, revoked)
	}, func(a *account) { answer = a.showSetupKey(a.keys.byID[id]) })
	return answer, err
}

// RevokeSetupKey ends a key for good; machines that enrolled with it stay.
func (s *State) RevokeSetupKey(ctx context.Context, p auth.Principal, id string) (answer api.SetupKey, err error) {
	err = s.write(ctx, p, api.PermissionSetupKeysUpdate, func(w *write) error {
		k, err := w.setupKey(id, "")
		if err != nil {
			return err
		}
		return w.changeKey(k, k.AutoGroups, true)
	}, func(a *account) { answer = a.showSetupKey(a.keys.byID[id]) })
	return answer, err
}

// changeKey stores a key with what can change of it.
func (w *write) changeKey(k store.SetupKey, groups []string, revoked bool) error {
	if revoked == k.Revoked && slices.Equal(groups, k.AutoGroups) {
		return errUnchanged
	}
	before := keyAudit(k)
	k.Revoked, k.AutoGroups, k.UpdatedAt, k.Version = revoked, groups, w.now, k.Version+1
	w.change(change{SetupKey: &k})
	if err := store.SetupKeys.Update(w.ctx, w.tx, &k); err != nil {
		return err
	}
	if err := w.keyRefs(k); err != nil {
		return err
	}
	return w.note("setup-key.update", k.ID, k.Name, before, keyAudit(k))
}

func (w *write) setupKey(id, ifMatch string) (store.SetupKey, error) {
	k, err := store.FindSetupKey(w.ctx, w.tx, w.account.ID, id)
	if k, err = found(k, err, "setup key"); err != nil {
		return k, err
	}
	return k, checkMatch(ifMatch, "setup key", k.Version)
}

// DeleteSetupKey removes a setup key; machines that enrolled with it stay.
func (s *State) DeleteSetupKey(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.write(ctx, p, api.PermissionSetupKeysDelete, func(w *write) error {
		k, err := w.setupKey(id, ifMatch)
		if err != nil {
			return err
		}
		w.change(change{SetupKey: &k, Remove: true})
		if err := store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindSetupKey, id, nil); err != nil {
			return err
		}
		if err := store.SetupKeys.Delete(w.ctx, w.tx, id); err != nil {
			return err
		}
		return w.note("setup-key.delete", id, k.Name, keyAudit(k), nil)
	}, func(*account) {})
}

func keyAudit(k store.SetupKey) map[string]any {
	return map[string]any{
		"name": k.Name, "type": k.Type, "expires_in": k.ExpiresIn, "usage_limit": k.UsageLimit, "auto_groups": k.AutoGroups,
		"revoked": k.Revoked, "ephemeral": k.Ephemeral, "allow_extra_dns_labels": k.AllowExtraDNSLabels,
	}
}

// usable says why a key cannot be used; nil when it can.
func usable(k store.SetupKey, at time.Time) error {
	detail := ""
	switch keyState(k, at) {
	case api.SetupKeyStateRevoked:
		detail = "the setup key was revoked; ask for a new one"
	case api.SetupKeyStateExpired:
		detail = "the setup key expired at " + k.ExpiresAt.Format(time.RFC3339) + "; ask for a new one"
	case api.SetupKeyStateOverused:
		detail = "the setup key is used up: its limit of machines has enrolled; ask for a new one"
	default:
		return nil
	}
	return problem.Unauthenticated(problem.KindSetupKey, detail)
}

var errUnknownKey error = problem.Unauthenticated(problem.KindSetupKey, "the setup key is unknown; check that it was copied whole")
