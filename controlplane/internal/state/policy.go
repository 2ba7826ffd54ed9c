package state

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// policyBody is what the store keeps of a policy besides its name: the contract's
// shape, with ids where the contract shows references.
type policyBody struct {
	Description string     `json:"description"`
	Enabled     bool       `json:"enabled"`
	Checks      []string   `json:"source_posture_checks,omitempty"`
	Rules       []ruleBody `json:"rules"`
}

type ruleBody struct {
	ID                  string                 `json:"id"`
	Name                string                 `json:"name"`
	Description         string                 `json:"description"`
	Enabled             bool                   `json:"enabled"`
	Action              api.PolicyRuleAction   `json:"action"`
	Bidirectional       bool                   `json:"bidirectional"`
	Protocol            api.PolicyRuleProtocol `json:"protocol"`
	Sources             []string               `json:"sources,omitempty"`
	SourceResource      *api.RuleResource      `json:"sourceResource,omitempty"`
	Destinations        []string               `json:"destinations,omitempty"`
	DestinationResource *api.RuleResource      `json:"destinationResource,omitempty"`
	Ports               []string               `json:"ports,omitempty"`
	PortRanges          []api.PortRange        `json:"port_ranges,omitempty"`
	AuthorizedGroups    map[string][]string    `json:"authorized_groups,omitempty"`

	Mode      api.PolicyRuleRequestMode `json:"mode,omitempty"`
	NotBefore string                    `json:"not_before,omitempty"`
	NotAfter  string                    `json:"not_after,omitempty"`
	Status    api.PolicyRuleStatus      `json:"status,omitempty"` // empty for active
}

// policies is the noun of the rules about who may reach whom.
var policies = &noun[policyBody, api.Policy]{
	kind: store.KindPolicy, title: "policy",
	creating: api.PermissionPoliciesCreate, changing: api.PermissionPoliciesUpdate, deleting: api.PermissionPoliciesDelete,
	in:   func(a *account) *ordered[object[policyBody]] { return &a.policies },
	refs: policyBody.refs,
	indexed: func(a *account, p object[policyBody]) (entries []entry) {
		for _, ref := range p.Body.refs() {
			if ref.ToKind != store.KindPeer {
				entries = append(entries, entry{a.reaching, ref.ToID, p.Seq})
			}
		}
		return entries
	},
	show: (*account).showPolicy,
	compiled: func(a *account, p object[policyBody]) []netmap.Change {
		a.noteTurn(p.ID, p.Body.nextTurn())
		return []netmap.Change{netmap.PolicyPut{Policy: compiledPolicy(p)}}
	},
	gone: func(a *account, p object[policyBody]) []netmap.Change {
		a.noteTurn(p.ID, time.Time{})
		return []netmap.Change{netmap.PolicyRemove{ID: p.ID}}
	},
}

// compiledPolicy is the policy as the network map takes it.
func compiledPolicy(p object[policyBody]) netmap.Policy {
	out := netmap.Policy{ID: p.ID, Enabled: p.Body.Enabled, Checks: p.Body.Checks, Rules: make([]netmap.Rule, len(p.Body.Rules))}
	for i, r := range p.Body.Rules {
		rule := netmap.Rule{
			ID: r.ID, Enabled: r.Enabled, Drop: r.Action == api.PolicyRuleActionDrop, Bidirectional: r.Bidirectional,
			Protocol: string(r.Protocol), Sources: r.Sources, Destinations: r.Destinations,
			Monitor: r.Mode == api.PolicyRuleRequestModeMonitor, Term: r.term(), Phase: r.phase(),
		}
		rule.SourcePeer, rule.SourceResource = singleEnd(r.SourceResource)
		rule.DestinationPeer, rule.DestinationResource = singleEnd(r.DestinationResource)
		for _, port := range r.Ports {
			n, _ := strconv.ParseUint(port, 10, 16) // checked when it was written
			rule.Ports = append(rule.Ports, netmap.PortRange{First: uint16(n), Last: uint16(n)})
		}
		for _, span := range r.PortRanges {
			rule.Ports = append(rule.Ports, netmap.PortRange{First: uint16(span.Start), Last: uint16(span.End)})
		}
		out.Rules[i] = rule
	}
	return out
}

// singleEnd is the end of a rule that is one peer or one network resource; both are
// empty for groups.
func singleEnd(end *api.RuleResource) (peer, resource string) {
	switch {
	case end == nil:
		return "", ""
	case end.Type == api.RuleResourceTypePeer:
		return end.Id, ""
	}
	return "", end.Id
}

func (a *account) showPolicy(p object[policyBody]) api.Policy {
	rules := make([]api.PolicyRule, len(p.Body.Rules))
	for i, r := range p.Body.Rules {
		rules[i] = api.PolicyRule{
			Id: r.ID, Name: r.Name, Description: r.Description, Enabled: r.Enabled, Action: r.Action, Bidirectional: r.Bidirectional,
			Protocol: r.Protocol, SourceResource: r.SourceResource, DestinationResource: r.DestinationResource,
			Mode: unlessEmpty(api.PolicyRuleMode(r.Mode)), NotBefore: unlessEmpty(r.NotBefore), NotAfter: unlessEmpty(r.NotAfter), Status: r.status(),
		}
		if r.SourceResource == nil {
			refs := a.groupReferences(r.Sources)
			rules[i].Sources = &refs
		}
		if r.DestinationResource == nil {
			refs := a.groupReferences(r.Destinations)
			rules[i].Destinations = &refs
		}
		if len(r.Ports) > 0 {
			rules[i].Ports = &r.Ports
		}
		if len(r.PortRanges) > 0 {
			rules[i].PortRanges = &r.PortRanges
		}
		if len(r.AuthorizedGroups) > 0 {
			rules[i].AuthorizedGroups = &r.AuthorizedGroups
		}
	}
	return api.Policy{
		Id: p.ID, Name: p.Name, Description: p.Body.Description, Enabled: p.Body.Enabled, SourcePostureChecks: append([]string{}, p.Body.Checks...),
		Rules: rules, Version: p.Version,
	}
}

// ListPolicies lists the policies.
func (s *State) ListPolicies(_ context.Context, p auth.Principal, params api.ListPoliciesParams) ([]api.Policy, string, error) {
	return policies.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[policyBody](params.Name))
}

// GetPolicy reads a policy.
func (s *State) GetPolicy(_ context.Context, p auth.Principal, id string) (api.Policy, error) {
	return policies.get(s, p, "", id)
}

// CreatePolicy creates a policy with all of its rules.
func (s *State) CreatePolicy(ctx context.Context, p auth.Principal, req api.PolicyRequest) (answer api.Policy, err error) {
	req.ApplyDefaults()
	return policies.create(ctx, s, p, func(w *write) (string, policyBody, error) {
		body, err := w.policyBody(req, nil)
		return req.Name, body, together(checkPolicy(req), err)
	})
}

// UpdatePolicy replaces a policy and its rules. A rule is matched by id if one is
// sent, else by name; rules that are not sent are removed.
func (s *State) UpdatePolicy(ctx context.Context, p auth.Principal, id string, req api.PolicyRequest, ifMatch string) (api.Policy, error) {
	req.ApplyDefaults()
	return policies.update(ctx, s, p, "", id, ifMatch, func(w *write, had object[policyBody]) (string, policyBody, error) {
		body, err := w.policyBody(req, had.Body.Rules)
		return req.Name, body, together(checkPolicy(req), err)
	})
}

// DeletePolicy removes a policy.
func (s *State) DeletePolicy(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return policies.delete(ctx, s, p, "", id, ifMatch, nil)
}

// checkPolicy finds what the contract's own validation cannot see.
func checkPolicy(req api.PolicyRequest) error {
	var more []problem.FieldError
	for i, r := range req.Rules {
		at := fmt.Sprintf("rules[%d].", i)
		ports, _ := r.Ports.Get()
		spans, _ := r.PortRanges.Get()
		if len(ports)+len(spans) > 0 && *r.Protocol != api.PolicyRuleRequestProtocolTcp && *r.Protocol != api.PolicyRuleRequestProtocolUdp {
			field := "ports"
			if len(ports) == 0 {
				field = "port_ranges"
			}
			more = append(more, problem.Field(at+field, "ports need the protocol tcp or udp, not %s", *r.Protocol))
		}
		if people, _ := r.AuthorizedGroups.Get(); len(people) > 0 && !isSSH(*r.Protocol) {
			more = append(more, problem.Field(at+"authorized_groups", "only SSH has local users; the protocol must be ssh, not %s", *r.Protocol))
		}
		if behindRouter(r.SourceResource) && behindRouter(r.DestinationResource) {
			more = append(more, problem.Field(at+"destinationResource", "no agent stands at either end, so nobody could enforce the rule; "+
				"name a peer or groups at one end"))
		}
		for j, span := range spans {
			if span.Start > span.End {
				more = append(more, problem.Field(fmt.Sprintf("%sport_ranges[%d].end", at, j), "must not be below start: %d is below %d", span.End, span.Start))
			}
		}
	}
	return faults(req.Validate(), more...)
}

// behindRouter reports whether an end is a single resource of a network.
func behindRouter(end nullable.Nullable[api.RuleResource]) bool {
	r := resource(end)
	return r != nil && r.Type != api.RuleResourceTypePeer
}

// policyBody turns a request into what is kept; had are the rules so far.
func (w *write) policyBody(req api.PolicyRequest, had []ruleBody) (body policyBody, err error) {
	var texts groupTexts
	var singles []string
	for i, r := range req.Rules {
		at := fmt.Sprintf("rules[%d].", i)
		sources, _ := r.Sources.Get()
		destinations, _ := r.Destinations.Get()
		texts.add(at+"sources", sources)
		texts.add(at+"destinations", destinations)
		people, _ := r.AuthorizedGroups.Get()
		for _, group := range sortedKeys(people) {
			texts.addOne(at+"authorized_groups."+group, group)
		}
		for _, end := range []*api.RuleResource{resource(r.SourceResource), resource(r.DestinationResource)} {
			if end != nil {
				singles = append(singles, end.Id)
			}
		}
	}
	ids, _, wrong, err := w.resolve(texts)
	if err != nil {
		return body, err
	}
	kinds, err := w.singleKinds(singles)
	if err != nil {
		return body, err
	}
	ruleIDs, more := matchRules(req.Rules, had)
	wrong = append(wrong, more...)
	if more, err = w.knownChecks(*req.SourcePostureChecks); err != nil {
		return body, err
	}
	wrong = append(wrong, more...)
	body = policyBody{Description: *req.Description, Enabled: *req.Enabled, Checks: *req.SourcePostureChecks}
	for i, r := range req.Rules {
		at := fmt.Sprintf("rules[%d].", i)
		rule, more := newRule(at, r, ids, kinds)
		rule.ID = ruleIDs[i]
		more = append(more, rule.settle(at, r, ruleByID(had, rule.ID), w.now)...)
		body.Rules = append(body.Rules, rule)
		wrong = append(wrong, more...)
	}
	return body, faults(nil, wrong...)
}

func resource(n nullable.Nullable[api.RuleResource]) *api.RuleResource {
	if r, err := n.Get(); err == nil {
		return &r
	}
	return nil
}

// singleKinds returns what each id of a peer or network resource names; unknown ids
// are absent.
func (w *write) singleKinds(ids []string) (map[string]api.RuleResourceType, error) {
	kinds := map[string]api.RuleResourceType{}
	peers, err := store.KnownPeers(w.ctx, w.tx, w.account.ID, ids)
	if err != nil {
		return nil, err
	}
	for id := range peers {
		kinds[id] = api.RuleResourceTypePeer
	}
	rows, err := store.ObjectsByID(w.ctx, w.tx, w.account.ID, store.KindNetworkResource, ids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		o, err := networkResources.read(row)
		if err != nil {
			return nil, err
		}
		kinds[row.ID] = api.RuleResourceType(resourceType(o.Body.Address))
	}
	return kinds, nil
}

// checkSingle finds what is wrong with an end of a rule that is one thing; kinds
// holds what the known ids name.
func checkSingle(field string, end api.RuleResource, kinds map[string]api.RuleResourceType) []problem.FieldError {
	kind, known := kinds[end.Id]
	switch {
	case !known && end.Type == api.RuleResourceTypePeer:
		return []problem.FieldError{problem.Field(field+".id", "unknown peer id %q", end.Id)}
	case !known:
		return []problem.FieldError{problem.Field(field+".id", "unknown network resource id %q", end.Id)}
	case kind != end.Type:
		return []problem.FieldError{problem.Field(field+".type", "must be %s, which %s is, not %s", kind, end.Id, end.Type)}
	}
	return nil
}

func newRule(at string, r api.PolicyRuleRequest, ids map[string]string, kinds map[string]api.RuleResourceType) (rule ruleBody, wrong []problem.FieldError) {
	rule = ruleBody{
		Name: r.Name, Description: *r.Description, Enabled: *r.Enabled, Action: api.PolicyRuleAction(*r.Action),
		Bidirectional: *r.Bidirectional, Protocol: api.PolicyRuleProtocol(*r.Protocol),
		SourceResource: resource(r.SourceResource), DestinationResource: resource(r.DestinationResource),
	}
	rule.Ports, _ = r.Ports.Get()
	rule.PortRanges, _ = r.PortRanges.Get()
	rule.AuthorizedGroups, wrong = authorized(at+"authorized_groups", r.AuthorizedGroups, ids)
	for _, end := range []struct {
		field  string
		groups interface{ Get() ([]string, error) }
		into   *[]string
		single *api.RuleResource
	}{
		{"sources", r.Sources, &rule.Sources, rule.SourceResource},
		{"destinations", r.Destinations, &rule.Destinations, rule.DestinationResource},
	} {
		if texts, err := end.groups.Get(); err == nil {
			list, more := resolved(at+end.field, texts, ids)
			*end.into, wrong = list, append(wrong, more...)
		}
		if end.single != nil {
			wrong = append(wrong, checkSingle(at+end.field[:len(end.field)-1]+"Resource", *end.single, kinds)...)
		}
	}
	return rule, wrong
}

func isSSH(protocol api.PolicyRuleRequestProtocol) bool {
	return protocol == api.PolicyRuleRequestProtocolSsh || protocol == api.PolicyRuleRequestProtocolNetbirdSsh
}

// authorized turns the groups of people who may sign in by SSH into ids.
func authorized(field string, asked nullable.Nullable[map[string][]string], ids map[string]string) (people map[string][]string, wrong []problem.FieldError) {
	given, _ := asked.Get() // absent and null name nobody
	if len(given) == 0 {
		return nil, nil
	}
	people = make(map[string][]string, len(given))
	last := func(text string) int { // names come after ids, so that the one said to be too many is a name
		if ids[text] != text {
			return 1
		}
		return 0
	}
	for _, text := range slices.SortedStableFunc(slices.Values(sortedKeys(given)), func(a, b string) int { return last(a) - last(b) }) {
		id := ids[text]
		if _, twice := people[id]; twice && id != "" {
			wrong = append(wrong, problem.Field(field+"."+text, "names the same group as another key"))
		}
		people[id] = given[text]
	}
	return people, wrong
}

// matchRules gives each rule of a request its id: the one sent, else that of the
// rule with the same name, else a new one.
func matchRules(rules []api.PolicyRuleRequest, had []ruleBody) (ids []string, wrong []problem.FieldError) {
	ids = make([]string, len(rules))
	taken := map[string]bool{}
	for i, r := range rules {
		if r.Id == nil || *r.Id == "" || had == nil {
			continue
		}
		known := slices.ContainsFunc(had, func(old ruleBody) bool { return old.ID == *r.Id })
		switch {
		case !known:
			wrong = append(wrong, problem.Field(fmt.Sprintf("rules[%d].id", i), "unknown rule id %q; leave it out for a new rule", *r.Id))
		case taken[*r.Id]:
			wrong = append(wrong, problem.Field(fmt.Sprintf("rules[%d].id", i), "occurs twice: %s", *r.Id))
		}
		ids[i], taken[*r.Id] = *r.Id, true
	}
	for i, r := range rules {
		if ids[i] != "" {
			continue
		}
		at := slices.IndexFunc(had, func(old ruleBody) bool { return old.Name == r.Name && !taken[old.ID] })
		if at < 0 {
			ids[i] = newID()
			continue
		}
		ids[i], taken[had[at].ID] = had[at].ID, true
	}
	return ids, wrong
}

// ruleByID is the rule with an id; the zero value when there is none.
func ruleByID(rules []ruleBody, id string) ruleBody {
	if i := slices.IndexFunc(rules, func(r ruleBody) bool { return r.ID == id }); i >= 0 {
		return rules[i]
	}
	return ruleBody{}
}

// unlessEmpty is an optional field of an answer.
func unlessEmpty[T comparable](value T) *T {
	var none T
	if value == none {
		return nil
	}
	return &value
}

// refs are the references inside a policy.
func (b policyBody) refs() (refs []store.Ref) {
	for _, id := range b.Checks {
		refs = append(refs, store.Ref{Field: "source_posture_checks", ToKind: store.KindPostureCheck, ToID: id})
	}
	for _, r := range b.Rules {
		for _, id := range r.Sources {
			refs = append(refs, store.Ref{Field: "rules.sources", ToKind: store.KindGroup, ToID: id})
		}
		for _, id := range r.Destinations {
			refs = append(refs, store.Ref{Field: "rules.destinations", ToKind: store.KindGroup, ToID: id})
		}
		for id := range r.AuthorizedGroups {
			refs = append(refs, store.Ref{Field: "rules.authorized_groups", ToKind: store.KindGroup, ToID: id})
		}
		refs = append(refs, singleRefs("rules.sourceResource", r.SourceResource)...)
		refs = append(refs, singleRefs("rules.destinationResource", r.DestinationResource)...)
	}
	return refs
}

func singleRefs(field string, end *api.RuleResource) []store.Ref {
	switch peer, resource := singleEnd(end); {
	case peer != "":
		return []store.Ref{{Field: field, ToKind: store.KindPeer, ToID: peer}}
	case resource != "":
		return []store.Ref{{Field: field, ToKind: store.KindNetworkResource, ToID: resource}}
	}
	return nil
}
