package state

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// timed is a policy with one rule from all to all, in the place of the one that
// every account begins with.
func (f *fixture) timed(mode api.PolicyRuleRequestMode, begins, ends time.Time) api.Policy {
	f.t.Helper()
	for _, p := range must2(f.ListPolicies(f.t.Context(), f.owner, api.ListPoliciesParams{}))(f.t) {
		if err := f.DeletePolicy(f.t.Context(), f.owner, p.Id, ""); err != nil {
			f.t.Fatal(err)
		}
	}
	rule := api.PolicyRuleRequest{Name: "r", Sources: ids("All"), Destinations: ids("All")}
	if mode != "" {
		rule.Mode.Set(mode)
	}
	for _, end := range []struct {
		at   time.Time
		into *nullable.Nullable[string]
	}{{begins, &rule.NotBefore}, {ends, &rule.NotAfter}} {
		if !end.at.IsZero() {
			end.into.Set(end.at.UTC().Format(time.RFC3339))
		}
	}
	return must(f.CreatePolicy(f.t.Context(), f.owner, api.PolicyRequest{Name: "timed", Rules: []api.PolicyRuleRequest{rule}}))(f.t)
}

func (f *fixture) status(id string) api.PolicyRuleStatus {
	f.t.Helper()
	return must(f.GetPolicy(f.t.Context(), f.owner, id))(f.t).Rules[0].Status
}

// TestRulesBeginAndEnd lets Run do it. Nobody changed the policy, so its version
// stays, and a restart finds what was.
func TestRulesBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fresh(t)
		a, b := f.enroll("a"), f.enroll("b")
		begins := now().Truncate(time.Second).Add(10 * time.Second)
		p := f.timed("", begins, begins.Add(10*time.Second))
		stop := f.runs()
		at := func(moment time.Time, status api.PolicyRuleStatus, sees bool) {
			t.Helper()
			time.Sleep(time.Until(moment))
			synctest.Wait()
			if got := f.status(p.Id); got != status || f.sees(a, b) != sees {
				t.Errorf("at %s the rule is %s and the machines see each other: %t; want %s and %t", moment, got, f.sees(a, b), status, sees)
			}
		}
		at(now(), "pending", false)
		at(begins.Add(-time.Millisecond), "pending", false)
		at(begins, "active", true)
		at(begins.Add(10*time.Second-time.Millisecond), "active", true)
		at(begins.Add(10*time.Second), "expired", false)
		if after := must(f.GetPolicy(t.Context(), f.owner, p.Id))(t); after.Version != p.Version {
			t.Errorf("version %d of a policy that nobody changed, want %d", after.Version, p.Version)
		}
		events := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Activity: new("policy.turn")}))(t)
		if len(events) != 2 || events[0].ActivityCode != "policy.turn" {
			t.Errorf("audit: %+v", events)
		}
		stop()
	})
}

// TestTermThatPassedWhileNobodyRan is caught up with at once.
func TestTermThatPassedWhileNobodyRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fresh(t)
		a, b := f.enroll("a"), f.enroll("b")
		p := f.timed("", time.Time{}, now().Add(10*time.Second))
		time.Sleep(time.Hour)
		if !f.sees(a, b) {
			t.Fatal("nothing runs, and the rule ended")
		}
		stop := f.runs()
		synctest.Wait()
		if f.sees(a, b) || f.status(p.Id) != "expired" {
			t.Errorf("the rule is %s an hour after its end", f.status(p.Id))
		}
		stop()
	})
}

// runs carries out the timed work until stop.
func (f *fixture) runs() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	}
}

func TestRuleThatMonitorsGrantsNothing(t *testing.T) {
	f := fresh(t)
	a, b := f.enroll("a"), f.enroll("b")
	p := f.timed(api.PolicyRuleRequestModeMonitor, time.Time{}, time.Time{})
	if f.sees(a, b) || *p.Rules[0].Mode != "monitor" || p.Rules[0].Status != "active" {
		t.Fatalf("%+v", p.Rules[0])
	}
	icmp := api.AccessQuestionProtocolIcmp
	said := must(f.ExplainAccess(t.Context(), f.owner, api.AccessQuestion{Source: a.Id, Destination: b.Id, Protocol: &icmp}))(t)
	if said.Allowed || len(said.NearMisses) != 1 || said.NearMisses[0].Missing != "monitor" ||
		!slices.Equal(said.WhatWouldHelp, []string{`set the mode of the rule "r" of the policy "timed" to enforce`}) {
		t.Errorf("%+v", said)
	}
	p.Rules[0].Mode = nil
	rule := api.PolicyRuleRequest{Name: "r", Sources: ids("All"), Destinations: ids("All"), Mode: nullable.NewNullNullable[api.PolicyRuleRequestMode]()}
	if _, err := f.UpdatePolicy(t.Context(), f.owner, p.Id, api.PolicyRequest{Name: "timed", Rules: []api.PolicyRuleRequest{rule}}, ""); err != nil {
		t.Fatal(err)
	}
	if !f.sees(a, b) {
		t.Error("without its mode the rule does not grant")
	}
}

func TestEndedTermsAreExplained(t *testing.T) {
	f := fresh(t)
	a, b := f.enroll("a"), f.enroll("b")
	icmp := api.AccessQuestionProtocolIcmp
	for missing, ends := range map[api.AccessNearMissMissing][2]time.Time{
		"pending": {now().Add(time.Hour), {}},
		"expired": {{}, now().Add(-time.Hour)},
	} {
		f.timed("", ends[0], ends[1])
		said := must(f.ExplainAccess(t.Context(), f.owner, api.AccessQuestion{Source: a.Id, Destination: b.Id, Protocol: &icmp}))(t)
		if said.Allowed || len(said.NearMisses) != 1 || said.NearMisses[0].Missing != missing || len(said.WhatWouldHelp) != 1 {
			t.Errorf("%s: %+v", missing, said)
		}
	}
}

// TestClientsThatKnowNoTerms send policies back as they understood them.
func TestClientsThatKnowNoTerms(t *testing.T) {
	f := fresh(t)
	begins, ends := now().Add(-time.Hour).Truncate(time.Second), now().Add(time.Hour).Truncate(time.Second)
	p := f.timed(api.PolicyRuleRequestModeEnforce, begins, ends)
	update := func(change func(r *api.PolicyRuleRequest)) (api.PolicyRule, error) {
		rule := api.PolicyRuleRequest{Name: "r", Sources: ids("All"), Destinations: ids("All")}
		change(&rule)
		p, err := f.UpdatePolicy(t.Context(), f.owner, p.Id, api.PolicyRequest{Name: "timed", Rules: []api.PolicyRuleRequest{rule}}, "")
		if err != nil {
			return api.PolicyRule{}, err
		}
		return p.Rules[0], nil
	}
	want := p.Rules[0]
	got := must(update(func(*api.PolicyRuleRequest) {}))(t)
	if diff := cmp.Diff(want, got); diff != "" || *got.NotAfter != ends.Format(time.RFC3339) {
		t.Errorf("absent fields: %s", diff)
	}
	got = must(update(func(r *api.PolicyRuleRequest) {
		r.Id, r.Name, r.Enabled = &want.Id, "other name", new(false)
	}))(t)
	if got.NotBefore == nil || got.NotAfter == nil || *got.Mode != "enforce" {
		t.Errorf("a rule that is known by its id: %+v", got)
	}
	_, err := update(func(r *api.PolicyRuleRequest) { r.Id = &want.Id; r.NotAfter.Set(begins.Format(time.RFC3339)) })
	refused(t, err, problem.KindInvalid, "rules[0].not_after", "must be after not_before")
	for _, wrong := range []string{"tomorrow", "2031-01-31", "2031-01-31T08:00:00+01:00", "2031-01-31T08:00:00.5Z", "0001-01-01T00:00:00Z"} {
		_, err := update(func(r *api.PolicyRuleRequest) { r.NotAfter.Set(wrong) })
		refused(t, err, problem.KindInvalid, "rules[0].not_after", "must be")
	}
	got = must(update(func(r *api.PolicyRuleRequest) {
		r.Id = &want.Id
		r.NotBefore.SetNull()
		r.NotAfter.SetNull()
		r.Mode.SetNull()
	}))(t)
	if got.NotBefore != nil || got.NotAfter != nil || got.Mode != nil {
		t.Errorf("null resets: %+v", got)
	}
}
