package state

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/posture"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// shownMisses is how many rules an explanation names that nearly match.
const shownMisses = 20

// ExplainAccess tells whether the first packet of a flow may pass, and why.
func (s *State) ExplainAccess(_ context.Context, p auth.Principal, req api.AccessQuestion) (answer api.AccessExplanation, err error) {
	req.ApplyDefaults()
	if err := checkQuestion(req); err != nil {
		return answer, err
	}
	err = s.reading(p, func(a *account) error {
		if p.Restricted() {
			return problem.Forbidden(api.PermissionPoliciesRead)
		}
		q, err := a.question(req)
		if err != nil {
			return err
		}
		all := make([]netmap.Policy, 0, len(a.policies.order))
		for object := range a.policies.all() {
			all = append(all, compiledPolicy(object))
		}
		explained, err := a.engine.Explain(all, q)
		if err != nil {
			return problem.Internal(fmt.Errorf("explain access: %w", err))
		}
		answer = a.showExplanation(q, explained)
		return nil
	})
	return answer, err
}

func checkQuestion(req api.AccessQuestion) error {
	var more []problem.FieldError
	switch icmp := *req.Protocol == api.AccessQuestionProtocolIcmp; {
	case !icmp && req.Port == nil:
		more = append(more, problem.Field("port", "is needed for the protocol %s", *req.Protocol))
	case icmp && req.Port != nil:
		more = append(more, problem.Field("port", "has no meaning for the protocol icmp"))
	}
	return faults(req.Validate(), more...)
}

func (a *account) question(req api.AccessQuestion) (q netmap.Question, err error) {
	var wrong []problem.FieldError
	for _, end := range []struct {
		field, text string
		into        *netmap.End
	}{{"source", req.Source, &q.Source}, {"destination", req.Destination, &q.Destination}} {
		found, problem := a.accessEnd(end.field, end.text)
		if problem != nil {
			wrong = append(wrong, *problem)
		}
		*end.into = found
	}
	if len(wrong) > 0 {
		return q, faults(nil, wrong...)
	}
	if q.Source.Kind != netmap.EndPeer && q.Destination.Kind != netmap.EndPeer {
		return q, problem.Invalid(problem.Field("destination", "is a resource, as the source is; one of them must be a peer"))
	}
	q.Protocol = map[api.AccessQuestionProtocol]uint8{
		api.AccessQuestionProtocolTcp: verdict.NumberTCP, api.AccessQuestionProtocolUdp: verdict.NumberUDP, api.AccessQuestionProtocolIcmp: verdict.NumberICMP,
	}[*req.Protocol]
	if req.Port != nil {
		q.Port = uint16(*req.Port)
	}
	return q, nil
}

// accessEnd finds a peer or a resource by its id or its exact name; ids win.
func (a *account) accessEnd(field, text string) (end netmap.End, wrong *problem.FieldError) {
	if p, ok := a.peers.get(text); ok {
		return netmap.End{Kind: netmap.EndPeer, ID: p.ID, Name: p.Name}, nil
	}
	var named []netmap.End
	for p := range a.peers.all() {
		if p.Name == text {
			named = append(named, netmap.End{Kind: netmap.EndPeer, ID: p.ID, Name: p.Name})
		}
	}
	for _, r := range a.engine.Resources() {
		if r.ID == text {
			return r, nil
		}
		if r.Name == text {
			named = append(named, r)
		}
	}
	var fault problem.FieldError
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		fault = problem.Field(field, "unknown peer or resource %q; give the id or the exact name of one that is enabled", text)
	default:
		fault = problem.Field(field, "%q is the name of %d peers or resources; give an id", text, len(named))
	}
	return end, &fault
}

func (a *account) showExplanation(q netmap.Question, x netmap.Explanation) api.AccessExplanation {
	shown := api.AccessExplanation{
		Allowed: x.Reason == netmap.ReasonAllowed, Reason: api.AccessExplanationReason(x.Reason),
		Source: showEnd(q.Source), Destination: showEnd(q.Destination),
		NearMisses: []api.AccessNearMiss{}, Routers: []api.AccessRouter{}, WhatWouldHelp: []string{},
	}
	if x.Rule.Policy != "" {
		rule := a.showRule(x.Rule)
		shown.Rule = &rule
	}
	for i, miss := range x.Near {
		if i == shownMisses {
			break
		}
		near := api.AccessNearMiss{
			Rule: a.showRule(miss.RuleRef), Missing: api.AccessNearMissMissing(miss.Missing), Groups: a.groupNames(miss.Groups), PostureChecks: a.checkNames(miss.Checks),
		}
		shown.NearMisses = append(shown.NearMisses, near)
		switch {
		case x.Reason != netmap.ReasonNoRule:
		case miss.Missing == netmap.MissPosture:
			shown.WhatWouldHelp = append(shown.WhatWouldHelp, a.postureRemedy(miss, near))
		default:
			shown.WhatWouldHelp = append(shown.WhatWouldHelp, remedy(near, shown, q))
		}
	}
	for _, r := range x.Routers {
		shown.Routers = append(shown.Routers, api.AccessRouter{Peer: showEnd(r.Peer), Metric: r.Metric, Approved: r.Approved})
	}
	shown.Detail = detail(shown)
	shown.WhatWouldHelp = append(shown.WhatWouldHelp, remedies(shown)...)
	return shown
}

func (a *account) showRule(ref netmap.RuleRef) api.AccessRule {
	shown := api.AccessRule{PolicyId: ref.Policy, RuleId: ref.Rule}
	policy, _ := a.policies.get(ref.Policy)
	shown.PolicyName = policy.Name
	for _, r := range policy.Body.Rules {
		if r.ID == ref.Rule {
			shown.RuleName = r.Name
		}
	}
	return shown
}

func (a *account) groupNames(ids []string) []string {
	names := []string{}
	for _, id := range ids {
		if g, ok := a.groups.get(id); ok {
			names = append(names, g.Name)
		}
	}
	return names
}

func (a *account) checkNames(ids []string) []string {
	names := []string{}
	for _, id := range ids {
		if c, ok := a.postureChecks.get(id); ok {
			names = append(names, c.Name)
		}
	}
	return names
}

// postureRemedy says which checks the source of a rule does not meet, and what of
// each. The caller holds the lock of the account.
func (a *account) postureRemedy(miss netmap.NearMiss, near api.AccessNearMiss) string {
	peer, known := a.peers.get(miss.Peer)
	if !known {
		return fmt.Sprintf("take the posture checks from the policy %q: a network resource meets none", near.Rule.PolicyName)
	}
	machine := a.machine(peer.ID)
	var wants []string
	for _, id := range miss.Checks {
		c, _ := a.postureChecks.get(id)
		why := posture.Fault(c.Body.Checks, machine)
		wants = append(wants, fmt.Sprintf("%q (%s)", c.Name, cmp.Or(why, "it does now; the map follows")))
	}
	return fmt.Sprintf("let %s meet the posture checks of the policy %q: %s", peer.Name, near.Rule.PolicyName, strings.Join(wants, ", "))
}

// detail is the reason as a sentence.
func detail(x api.AccessExplanation) string {
	rule := ""
	if x.Rule != nil {
		rule = fmt.Sprintf("the rule %q of the policy %q", x.Rule.RuleName, x.Rule.PolicyName)
	}
	switch netmap.Reason(x.Reason) {
	case netmap.ReasonAllowed:
		return rule + " accepts it"
	case netmap.ReasonDropped:
		return rule + " drops it, and a drop wins over every accept"
	case netmap.ReasonSource:
		return x.Source.Name + " is not approved, so it sees nobody"
	case netmap.ReasonDestination:
		return x.Destination.Name + " is not approved, so nobody sees it"
	case netmap.ReasonNoRouter:
		return "no router that takes part leads to the resource"
	case netmap.ReasonRouterItself:
		return "the machine is itself a router of the resource and needs no way through the network"
	case netmap.ReasonSame:
		return "both ends are the same machine; its own traffic does not pass the network"
	}
	return "no rule accepts it, and what no rule accepts is denied"
}

// remedy is what would make a rule match that nearly does.
func remedy(miss api.AccessNearMiss, x api.AccessExplanation, q netmap.Question) string {
	rule := fmt.Sprintf("the rule %q of the policy %q", miss.Rule.RuleName, miss.Rule.PolicyName)
	groups := strings.Join(miss.Groups, ", ")
	switch netmap.Miss(miss.Missing) {
	case netmap.MissPolicyDisabled:
		return fmt.Sprintf("enable the policy %q", miss.Rule.PolicyName)
	case netmap.MissRuleDisabled:
		return "enable " + rule
	case netmap.MissMonitor:
		return fmt.Sprintf("set the mode of %s to enforce", rule)
	case netmap.MissPending:
		return fmt.Sprintf("wait for the time of %s, or let it begin earlier", rule)
	case netmap.MissExpired:
		return fmt.Sprintf("let %s end later, its time is over", rule)
	case netmap.MissPort:
		return fmt.Sprintf("add port %d to %s", q.Port, rule)
	case netmap.MissProtocol:
		return fmt.Sprintf("let %s match the protocol too", rule)
	case netmap.MissDirection:
		return fmt.Sprintf("make %s bidirectional", rule)
	case netmap.MissSource:
		return into(x.Source.Name, groups, rule, "source")
	}
	return into(x.Destination.Name, groups, rule, "destination")
}

func into(end, groups, rule, side string) string {
	if groups == "" {
		return fmt.Sprintf("name %s as the %s of %s", end, side, rule)
	}
	return fmt.Sprintf("put %s into a group that is a %s of %s: %s", end, side, rule, groups)
}

// remedies are those that are not about a rule that nearly matches.
func remedies(x api.AccessExplanation) []string {
	switch netmap.Reason(x.Reason) {
	case netmap.ReasonDropped:
		return []string{fmt.Sprintf("remove or narrow the rule %q of the policy %q", x.Rule.RuleName, x.Rule.PolicyName)}
	case netmap.ReasonSource:
		return []string{"approve " + x.Source.Name}
	case netmap.ReasonDestination:
		return []string{"approve " + x.Destination.Name}
	case netmap.ReasonNoRouter:
		return []string{"add a router to the network of the resource, or approve one that it has"}
	case netmap.ReasonNoRule:
		if len(x.WhatWouldHelp) == 0 {
			return []string{fmt.Sprintf("a rule with a group of %s as source and a group of %s as destination", x.Source.Name, x.Destination.Name)}
		}
	}
	return nil
}
