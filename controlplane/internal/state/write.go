package state

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/audit"
	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// errUnchanged ends a write that would change nothing: no serial, no version, no
// audit event. The caller is answered with what is there.
var errUnchanged = errors.New("nothing changes")

// A write is one change of an account under way: everything it does is one
// transaction.
type write struct {
	ctx     context.Context //nolint:containedctx // lives as long as the transaction
	tx      *store.Tx
	p       auth.Principal
	account store.Account // with the serial of this write
	now     time.Time
	objects int64 // how many objects got their place in the order

	settings bool            // the account row changed
	touched  map[string]bool // groups whose members changed
	changes  []change
	event    store.AuditEntry

	keys      *seal.Keyring
	shownOnce string // the secret that the answer shows; kept sealed with the mark of a claim
}

// write runs fn in a transaction, applies its changes to memory and then calls
// render, in the order of commits and under the account's lock.
//
// Token and permission are checked once more in the transaction: what was taken
// away a moment ago does not count.
//
// Under a context of Preview the transaction is taken back after fn, and write
// ends with a Previewed.
func (s *State) write(ctx context.Context, p auth.Principal, permission string, fn func(w *write) error, render func(a *account)) error {
	a, err := s.account(p.AccountID)
	if err != nil {
		return err
	}
	var tried []change
	var tip int64 // the serial before the trial
	err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
		w := &write{ctx: context.WithoutCancel(ctx), tx: tx, p: p, now: now(), touched: map[string]bool{}, keys: s.cfg.Keys}
		if w.account, err = store.NextSerial(w.ctx, tx, a.id); err != nil {
			return err
		}
		tip = w.account.Serial - 1
		if err := w.authorise(permission); err != nil {
			return err
		}
		if err := fn(w); err != nil {
			return err
		}
		if trial(ctx) {
			tried = w.changes
			return errTried
		}
		if err := w.finish(); err != nil {
			return err
		}
		tx.After(func() { s.apply(a, w, render) })
		return nil
	})
	if errors.Is(err, errTried) || errors.Is(err, errUnchanged) && trial(ctx) {
		return s.preview(ctx, a, tip, tried)
	}
	if errors.Is(err, errUnchanged) {
		a.mu.RLock()
		defer a.mu.RUnlock()
		render(a)
		return nil
	}
	return asProblem(err)
}

// asProblem gives an error of the store a kind that the caller can act on.
func asProblem(err error) error {
	var known *problem.Problem
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case store.Unavailable(err):
		return problem.Unavailable(5*time.Second, err)
	}
	return problem.Internal(err)
}

// authorise reads role and token of a user once more, in the transaction. Between
// the check of the request's credentials and its write lies its body, which may
// take as long as the caller likes, and the queue of writers: what was taken away
// meanwhile does not count any more. It is one query by two primary keys; memory
// would not do, since it follows the commits.
func (w *write) authorise(permission string) error {
	if permission == "" || w.p.Kind != auth.KindUser && w.p.Kind != auth.KindServiceUser {
		return nil
	}
	role, blocked, holds, err := store.UserRole(w.ctx, w.tx, w.account.ID, w.p.ID, w.p.TokenID)
	if errors.Is(err, store.ErrNoRow) || err == nil && blocked {
		return problem.Unauthenticated(problem.KindUnauthenticated, "the user of these credentials is blocked or was removed")
	}
	if err != nil {
		return err
	}
	if !holds && w.p.TokenID != "" {
		return problem.Unauthenticated(problem.KindUnauthenticated, refusedToken)
	}
	w.p.Role = role
	if !w.p.Can(permission) {
		return problem.Forbidden(permission)
	}
	return nil
}

// seq gives the next object its place in the order of creation.
func (w *write) seq() int64 {
	w.objects++
	return w.account.Serial<<16 | (w.objects - 1)
}

func (w *write) change(c change) { w.changes = append(w.changes, c) }

// note is the audit event of the write. before or after is nil when the object
// is new or gone; neither may hold a secret.
func (w *write) note(activity, targetID, name string, before, after any) error {
	event, err := newEvent(w.p, activity, targetID, name, before, after)
	w.event = event
	return err
}

func newEvent(p auth.Principal, activity, targetID, name string, before, after any) (e store.AuditEntry, err error) {
	e = store.AuditEntry{
		Activity: activity, TargetID: targetID, InitiatorID: p.ID, InitiatorName: p.Name, InitiatorEmail: p.Email,
		Channel: string(p.Channel), RequestID: p.RequestID,
	}
	if p.Channel == "" {
		e.Channel = string(auth.ChannelAPI)
	}
	meta, err := json.Marshal(map[string]string{"name": name})
	e.Meta = string(meta)
	for _, side := range []struct {
		from any
		into *string
	}{{before, &e.Before}, {after, &e.After}} {
		if side.from == nil || err != nil {
			continue
		}
		var text []byte
		text, err = json.Marshal(side.from)
		*side.into = string(text)
	}
	return e, err
}

// finish writes what every write leaves behind: versions of groups whose members
// changed, the account row and the audit event.
func (w *write) finish() error {
	if len(w.touched) > 0 {
		ids := sortedKeys(w.touched)
		if err := store.RaiseVersions(w.ctx, w.tx, ids); err != nil {
			return err
		}
		w.change(change{Touched: ids})
	}
	if w.settings {
		store.KeepAccount(w.tx, w.account)
		w.change(change{Account: &w.account})
	}
	if err := w.provenance(); err != nil {
		return err
	}
	if err := w.chain(); err != nil {
		return err
	}
	return w.keepClaim()
}

// chain appends the audit event.
func (w *write) chain() error {
	if w.event.Activity == "" {
		return errors.New("write without an audit event")
	}
	n, before, err := store.AuditHead(w.ctx, w.tx, w.account.ID)
	if err != nil {
		return err
	}
	w.event.AccountID, w.event.N, w.event.CreatedAt = w.account.ID, n+1, w.now
	w.event.Hash = audit.Chain(before, w.event)
	return store.AddAuditEvent(w.ctx, w.tx, &w.event)
}

// apply brings a committed write into memory and into the network map.
func (s *State) apply(a *account, w *write, render func(a *account)) {
	s.index(w.changes)
	a.mu.Lock()
	update := s.applyLocked(a, w)
	a.revision++
	render(a)
	a.mu.Unlock()
	if slices.ContainsFunc(w.changes, func(c change) bool { return c.Object != nil && c.Object.Kind == store.KindPolicy }) {
		s.lookAtTurns()
	}
	if update == nil {
		return
	}
	a.listening.Lock()
	defer a.listening.Unlock()
	for _, fn := range a.listeners {
		fn(update)
	}
}

func (s *State) applyLocked(a *account, w *write) *netmap.Update {
	var changes []netmap.Change
	for _, c := range w.changes {
		more, err := a.apply(c)
		if err != nil {
			s.cfg.Logger.Error("committed change does not apply", "account", a.id, "serial", w.account.Serial, "error", err)
			continue
		}
		changes = append(changes, more...)
	}
	a.row = w.account
	if len(changes) == 0 {
		return nil
	}
	if a.behind {
		return s.rebuild(a)
	}
	update, err := a.engine.Apply(w.account.Serial, changes...)
	if err != nil {
		s.cfg.Logger.Error("network map refused a committed change and is built anew", "account", a.id, "serial", w.account.Serial, "error", err)
		return s.rebuild(a)
	}
	return update
}

// rebuild makes the network map out of memory, whatever it held before. The caller holds the lock of the account.
func (s *State) rebuild(a *account) *netmap.Update {
	var update *netmap.Update
	changes, err := a.whole()
	if err == nil {
		update, err = a.engine.Rebuild(a.row.Serial, changes)
	}
	if a.behind = err != nil; a.behind {
		s.cfg.Logger.Error("network map cannot be built anew; the next change tries again", "account", a.id, "error", err)
		return nil
	}
	return update
}

// index keeps the look-ups that know no account yet.
func (s *State) index(changes []change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		switch {
		case c.Token != nil && c.Remove:
			delete(s.tokens, [32]byte(c.Token.SHA256))
		case c.Token != nil:
			sum := [32]byte(c.Token.SHA256)
			s.tokens[sum] = &tokenUse{sum: sum, accountID: c.Token.AccountID, tokenID: c.Token.ID}
		case c.SetupKey != nil && c.Remove:
			delete(s.keys, [32]byte(c.SetupKey.SHA256))
		case c.SetupKey != nil:
			s.keys[[32]byte(c.SetupKey.SHA256)] = c.SetupKey.AccountID
		case c.Invite != nil && (c.Remove || accepted(*c.Invite)):
			delete(s.invites, [32]byte(c.Invite.SHA256))
		case c.Invite != nil:
			s.invites[[32]byte(c.Invite.SHA256)] = c.Invite.AccountID
		case c.Peer != nil && c.Remove:
			delete(s.peers, c.Peer.ID)
		case c.Peer != nil:
			s.peers[c.Peer.ID] = c.Peer.AccountID
		}
	}
}

// checkMatch compares an If-Match header with the present version (RFC 9110,
// section 13.1.1). An empty header matches. What follows the version after a dot
// tells of other objects that the answer showed, which the change is not about.
func checkMatch(ifMatch, noun string, version int64) error {
	if ifMatch == "" {
		return nil
	}
	want := strconv.FormatInt(version, 10)
	for tag := range strings.SplitSeq(ifMatch, ",") {
		tag = strings.TrimSpace(tag)
		known, quoted := strings.CutPrefix(strings.TrimSuffix(tag, `"`), `"`)
		known, _, _ = strings.Cut(known, ".")
		if tag == "*" || quoted && known == want {
			return nil
		}
	}
	return problem.StaleVersion(noun)
}

// found turns a missing row into the 404 of its noun.
func found[T any](row T, err error, noun string) (T, error) {
	if errors.Is(err, store.ErrNoRow) {
		return row, problem.NotFound(noun)
	}
	return row, err
}
