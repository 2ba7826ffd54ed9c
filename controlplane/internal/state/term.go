package state

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// Where a rule stands in its term is judged here and kept with the rule, so that
// every instance and every restart has the same network map. The map reads no
// clock.
//
//	policy put ──> stands ──> policy row ──> network map
//	next turn of all policies ──> timer of Run ──> stands ──> policy row, same version

// term is when the rule counts. Both times were checked when they were written.
func (r ruleBody) term() (t verdict.Term) {
	for _, end := range []struct {
		text string
		into *time.Time
	}{{r.NotBefore, &t.NotBefore}, {r.NotAfter, &t.NotAfter}} {
		if end.text != "" {
			*end.into, _ = time.Parse(time.RFC3339, end.text)
		}
	}
	return t
}

// stands is where the rule stands in its term at a moment; empty for active.
func (r ruleBody) stands(at time.Time) api.PolicyRuleStatus {
	switch t := r.term(); {
	case t.Holds(at):
		return ""
	case at.Before(t.NotBefore):
		return api.PolicyRuleStatusPending
	}
	return api.PolicyRuleStatusExpired
}

func (r ruleBody) phase() netmap.Phase {
	return map[api.PolicyRuleStatus]netmap.Phase{
		api.PolicyRuleStatusPending: netmap.PhasePending, api.PolicyRuleStatusExpired: netmap.PhaseExpired,
	}[r.Status]
}

// settle takes what a request says of mode and term, or what the rule had where
// it says nothing: clients that do not know the fields do not reset them.
func (r *ruleBody) settle(at string, asked api.PolicyRuleRequest, had ruleBody, now time.Time) []problem.FieldError {
	r.Mode = kept(asked.Mode, api.PolicyRuleRequestMode(had.Mode))
	r.NotBefore, r.NotAfter = kept(asked.NotBefore, had.NotBefore), kept(asked.NotAfter, had.NotAfter)
	r.Status = r.stands(now)
	if t := r.term(); !t.NotAfter.IsZero() && !t.NotBefore.Before(t.NotAfter) {
		return []problem.FieldError{problem.Field(at+"not_after", "must be after not_before, which is %s", r.NotBefore)}
	}
	return nil
}

// kept is a field of a request: null is the zero value, absent what there was.
func kept[T any](asked nullable.Nullable[T], had T) T {
	if !asked.IsSpecified() {
		return had
	}
	value, _ := asked.Get() // null is the zero value
	return value
}

// nextTurn is when a rule of the policy next begins or ends; zero for never.
func (b policyBody) nextTurn() (next time.Time) {
	for _, r := range b.Rules {
		turn := time.Time{}
		switch t := r.term(); r.Status {
		case api.PolicyRuleStatusPending:
			turn = t.NotBefore
		case "":
			turn = t.NotAfter
		}
		if !turn.IsZero() && (next.IsZero() || turn.Before(next)) {
			next = turn
		}
	}
	return next
}

// noteTurn keeps when a policy turns next, for Run. The caller holds the lock of
// the account.
func (a *account) noteTurn(policyID string, at time.Time) {
	if at.IsZero() {
		delete(a.turns, policyID)
		return
	}
	a.turns[policyID] = at
}

// due lists the policies with a rule that has begun or ended, and tells how long
// to wait for the next.
func (a *account) due(at time.Time) (policies []string, wait time.Duration) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	wait = presenceInterval
	for id, turn := range a.turns {
		if left := turn.Sub(at); left > 0 {
			wait = min(wait, left)
		} else {
			policies = append(policies, id)
		}
	}
	slices.Sort(policies)
	return policies, wait
}

// lookAtTurns has Run look again when the next rule begins or ends.
func (s *State) lookAtTurns() {
	select {
	case s.turned <- struct{}{}:
	default: // it will
	}
}

// turnRules brings every rule that has begun or ended into its new state, and
// tells how long to wait for the next. Whoever comes second, of several
// instances, changes nothing.
func (s *State) turnRules(ctx context.Context) (wait time.Duration, err error) {
	wait = presenceInterval
	var failed []error
	for _, a := range s.all() {
		policies, next := a.due(now())
		wait = min(wait, next)
		for _, id := range policies {
			failed = append(failed, s.turnPolicy(ctx, a, id))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return min(wait, turnRetry), err
	}
	return wait, nil
}

// turnRetry is how long after a failure rules are turned again.
const turnRetry = time.Second

// turnPolicy writes down that rules of a policy have begun or ended. It is no
// change of what anybody declared, so the version stays.
func (s *State) turnPolicy(ctx context.Context, a *account, id string) error {
	err := s.write(ctx, auth.System(a.id), "", func(w *write) error {
		row, had, err := policies.find(w, "", id, "")
		if err != nil {
			return err
		}
		body := had.Body
		body.Rules = slices.Clone(body.Rules)
		before, after := map[string]any{}, map[string]any{}
		for i, r := range body.Rules {
			if is := r.stands(w.now); is != r.Status {
				before[r.Name], after[r.Name] = r.status(), ruleBody{Status: is}.status()
				body.Rules[i].Status = is
			}
		}
		if err := policies.rewrite(w, row, had.Name, body); err != nil {
			return err
		}
		return w.note("policy.turn", id, had.Name, map[string]any{"rules": before}, map[string]any{"rules": after})
	}, func(*account) {})
	var gone *problem.Problem
	if errors.As(err, &gone) && gone.Kind == problem.KindNotFound {
		return nil // removed meanwhile
	}
	return err
}

func (r ruleBody) status() api.PolicyRuleStatus {
	if r.Status == "" {
		return api.PolicyRuleStatusActive
	}
	return r.Status
}
