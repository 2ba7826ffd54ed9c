package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// How long answers are kept.
const (
	answerAge       = 24 * time.Hour
	secretAnswerAge = 10 * time.Minute
)

// created is the status of a create that was carried out: the contract answers 200 for everything.
const created = 200

// An Answer is the response of a create that was made with an Idempotency-Key.
type Answer struct {
	Status int
	Body   []byte

	// Secret says that the body holds a secret: it is kept sealed, for ten
	// minutes. After that the key still makes no second object.
	Secret bool
}

// A Claim is the right to carry out the request of one Idempotency-Key. The write
// that it covers keeps a mark in its own transaction, so a crash at any moment
// cannot lead to a second object.
type Claim struct {
	caller, key string
	hash        [32]byte
	kept        bool // the mark is in the store; written on the writer's goroutine, read after the write returned
}

// claims are the requests under way and the answers on their way to the disk.
type claims struct {
	mu    sync.Mutex // guards both maps
	open  map[string]*Claim
	fresh map[string]freshAnswer
}

type freshAnswer struct {
	hash   [32]byte
	answer Answer
	until  time.Time
}

type claimKey struct{}

func (c *Claim) id() string { return c.caller + "\x00" + c.key }

// Claim looks an Idempotency-Key up. It returns the answer that the same request
// got before, or a claim and the context under which to carry the request out;
// Finish ends the claim. A key that stands for another request, or whose request
// is still under way, is a conflict.
func (s *State) Claim(ctx context.Context, p auth.Principal, key string, requestHash [32]byte) (context.Context, *Claim, *Answer, error) {
	c := &Claim{caller: p.AccountID + "/" + p.ID, key: key, hash: requestHash}
	at := now()
	s.claims.mu.Lock()
	fresh, done := s.claims.fresh[c.id()]
	_, busy := s.claims.open[c.id()]
	if !done && !busy {
		s.claims.open[c.id()] = c
	}
	s.claims.mu.Unlock()
	switch {
	case done && fresh.hash != requestHash:
		return ctx, nil, nil, otherRequest()
	case done && at.Before(fresh.until):
		return ctx, nil, &fresh.answer, nil
	case done:
		return ctx, nil, nil, answerGone()
	case busy:
		return ctx, nil, nil, conflict("the first request with this Idempotency-Key is still under way; repeat the request in a moment")
	}
	answer, err := s.storedAnswer(ctx, c, p, at)
	if err != nil || answer != nil {
		s.claims.release(c)
		return ctx, nil, answer, err
	}
	return context.WithValue(ctx, claimKey{}, c), c, nil, nil
}

func (s *State) storedAnswer(ctx context.Context, c *Claim, p auth.Principal, at time.Time) (*Answer, error) {
	var row store.StoredAnswer
	err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
		row, err = store.FindAnswer(ctx, tx, c.caller, c.key, at)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNoRow):
		return nil, nil
	case err != nil:
		return nil, asProblem(err)
	case !bytes.Equal(row.RequestHash, c.hash[:]):
		return nil, otherRequest()
	case row.Status == 0:
		return s.answerAgain(c, p, row, at)
	}
	answer := &Answer{Status: row.Status, Body: row.Answer, Secret: row.Sealed}
	if row.Sealed {
		// A secret is shown again for a short time only, whatever the mark says.
		if at.After(row.ExpiresAt.Add(secretAnswerAge - answerAge)) {
			return nil, answerGone()
		}
		if answer.Body, err = s.cfg.Keys.Open(c.place(), row.Answer); err != nil {
			return nil, problem.Internal(err)
		}
	}
	return answer, nil
}

// An outcome is what the mark of a claim holds until the answer itself is kept. A
// crash between the two loses the answer, and the outcome makes it again.
type outcome struct {
	Activity string `json:"activity"`         // as in the audit event
	Target   string `json:"target"`           // the object
	Secret   string `json:"secret,omitempty"` // what the answer shows once
}

// answerAgain makes the answer of a claim that ended in a crash from the object that its write made. A membership has no
// answer of its own: adding a member twice changes nothing, so the request is carried out again.
func (s *State) answerAgain(c *Claim, p auth.Principal, row store.StoredAnswer, at time.Time) (*Answer, error) {
	text, err := s.cfg.Keys.Open(c.outcomePlace(), row.Answer)
	if err != nil {
		return nil, problem.Internal(err)
	}
	var o outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, problem.Internal(err)
	}
	if o.Secret != "" && at.After(row.ExpiresAt.Add(secretAnswerAge-answerAge)) {
		return nil, answerGone()
	}
	var body any
	err = s.reading(p, func(a *account) error {
		body = a.show(o, p)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case o.Activity == "group.peer.add", o.Activity == "group.resource.add":
		return nil, nil
	case body == nil:
		return nil, answerGone()
	}
	if text, err = json.Marshal(body); err != nil {
		return nil, problem.Internal(err)
	}
	return &Answer{Status: created, Body: text, Secret: o.Secret != ""}, nil
}

// show is the answer of the create that o tells of; nil when the object is gone again.
func (a *account) show(o outcome, p auth.Principal) any {
	switch o.Activity {
	case "group.create":
		if g, ok := a.groups.get(o.Target); ok {
			return a.showGroup(g)
		}
	case "setup-key.create":
		if k, ok := a.keys.get(o.Target); ok {
			shown := a.showSetupKey(k)
			shown.Key = o.Secret
			return shown
		}
	case "user.create":
		if u, ok := a.users.get(o.Target); ok {
			return a.showUser(u, p)
		}
	case "invite.create":
		if i, ok := a.invites.get(o.Target); ok {
			return a.showNewInvite(i, o.Secret)
		}
	case "invite.regenerate":
		if i, ok := a.invites.get(o.Target); ok {
			return showNewLink(i, o.Secret)
		}
	case "token.create":
		if t, ok := a.tokens.get(o.Target); ok {
			return a.showNewToken(t, o.Secret)
		}
	}
	if kind, found := strings.CutSuffix(o.Activity, ".create"); found {
		if n, ok := nounOf(kind); ok {
			return n.again(a, o.Target)
		}
	}
	return nil
}

// keepClaim leaves the mark of a claim in the transaction that it covers.
func (w *write) keepClaim() error {
	c, ok := w.ctx.Value(claimKey{}).(*Claim)
	if !ok {
		return nil
	}
	outcome, err := json.Marshal(outcome{Activity: w.event.Activity, Target: w.event.TargetID, Secret: w.shownOnce}) //nolint:gosec // sealed below
	if err != nil {
		return err
	}
	row := store.StoredAnswer{
		Caller: c.caller, Key: c.key, RequestHash: c.hash[:], Sealed: true,
		Answer: w.keys.Seal(c.outcomePlace(), outcome), ExpiresAt: w.now.Add(answerAge),
	}
	if err := store.Answers.Delete(w.ctx, w.tx, c.caller, c.key); err != nil { // an expired one
		return err
	}
	c.kept = true
	return store.Answers.Insert(w.ctx, w.tx, &row)
}

// Finish keeps the answer of a claimed request and ends the claim. A refusal, for
// which answer is nil, leaves nothing behind, so that the request can be repeated.
func (s *State) Finish(ctx context.Context, c *Claim, answer *Answer) error {
	defer s.claims.release(c)
	if answer == nil {
		return nil
	}
	at := now()
	row := store.StoredAnswer{
		Caller: c.caller, Key: c.key, RequestHash: c.hash[:], Status: answer.Status, Sealed: answer.Secret, Answer: answer.Body, ExpiresAt: at.Add(answerAge),
	}
	until := row.ExpiresAt
	if answer.Secret {
		row.Answer = s.cfg.Keys.Seal(c.place(), answer.Body)
		until = at.Add(secretAnswerAge)
	}
	s.claims.mu.Lock()
	s.claims.fresh[c.id()] = freshAnswer{hash: c.hash, answer: *answer, until: until}
	s.claims.mu.Unlock()
	inside := context.WithoutCancel(ctx)
	err := s.store.WriteLater(ctx, func(tx *store.Tx) error {
		tx.After(func() {
			s.claims.mu.Lock()
			defer s.claims.mu.Unlock()
			delete(s.claims.fresh, c.id())
		})
		if c.kept {
			return store.Answers.Update(inside, tx, &row)
		}
		// The object was there already, so that no write left a mark.
		if err := store.Answers.Delete(inside, tx, c.caller, c.key); err != nil { // an expired one
			return err
		}
		return store.Answers.Insert(inside, tx, &row)
	})
	return asProblem(err)
}

func (c *Claim) place() seal.Place {
	return seal.Place{Table: "idempotency", Column: "answer", Row: c.id()}
}

func (c *Claim) outcomePlace() seal.Place {
	return seal.Place{Table: "idempotency", Column: "outcome", Row: c.id()}
}

func (c *claims) release(claim *Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[claim.id()] == claim {
		delete(c.open, claim.id())
	}
}

// trim forgets answers that never reached the disk.
func (c *claims) trim(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, fresh := range c.fresh {
		if at.After(fresh.until) {
			delete(c.fresh, id)
		}
	}
}

func conflict(detail string) error {
	return &problem.Problem{Kind: problem.KindConflict, Detail: detail}
}

func otherRequest() error {
	return conflict("this Idempotency-Key stands for another request; choose a new key")
}

func answerGone() error {
	return conflict("the first request with this Idempotency-Key was carried out and its answer is no longer kept; look the object up")
}
