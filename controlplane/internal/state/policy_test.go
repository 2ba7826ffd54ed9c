package state

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func ids(list ...string) nullable.Nullable[[]string] { return nullable.NewNullableWithValue(list) }

func TestPolicyRules(t *testing.T) {
	f := fresh(t)
	web, db := f.group("web"), f.group("db")
	peer := f.enroll("a")
	rule := func(change func(*api.PolicyRuleRequest)) []api.PolicyRuleRequest {
		r := api.PolicyRuleRequest{Name: "r", Sources: ids(web.Id), Destinations: ids(db.Id)}
		if change != nil {
			change(&r)
		}
		return []api.PolicyRuleRequest{r}
	}
	for name, c := range map[string]struct {
		rules         []api.PolicyRuleRequest
		field, detail string
	}{
		"unknown group":    {rule(func(r *api.PolicyRuleRequest) { r.Sources = ids(web.Id, "gone") }), "rules[0].sources[1]", `unknown group id "gone"`},
		"same group twice": {rule(func(r *api.PolicyRuleRequest) { r.Sources = ids(web.Id, "web") }), "rules[0].sources[1]", "same group"},
		"unknown peer": {rule(func(r *api.PolicyRuleRequest) {
			r.Destinations = nullable.Nullable[[]string]{}
			r.DestinationResource = nullable.NewNullableWithValue(api.RuleResource{Id: "gone", Type: "peer"})
		}), "rules[0].destinationResource.id", `unknown peer id "gone"`},
		"both ends": {rule(func(r *api.PolicyRuleRequest) {
			r.SourceResource = nullable.NewNullableWithValue(api.RuleResource{Id: peer.Id, Type: "peer"})
		}), "rules[0].sources", "only one of"},
		"no agent at either end": {rule(func(r *api.PolicyRuleRequest) {
			r.Sources, r.Destinations = nullable.Nullable[[]string]{}, nullable.Nullable[[]string]{}
			r.SourceResource = nullable.NewNullableWithValue(api.RuleResource{Id: "x", Type: "host"})
			r.DestinationResource = nullable.NewNullableWithValue(api.RuleResource{Id: "y", Type: "subnet"})
		}), "rules[0].destinationResource", "nobody could enforce"},
		"no end":                 {rule(func(r *api.PolicyRuleRequest) { r.Sources = nullable.Nullable[[]string]{} }), "rules[0].sources", "one of"},
		"ports without protocol": {rule(func(r *api.PolicyRuleRequest) { r.Ports = ids("80") }), "rules[0].ports", "tcp or udp, not all"},
		"ranges with icmp": {rule(func(r *api.PolicyRuleRequest) {
			r.Protocol = new(api.PolicyRuleRequestProtocolIcmp)
			r.PortRanges = nullable.NewNullableWithValue([]api.PortRange{{Start: 1, End: 2}})
		}), "rules[0].port_ranges", "not icmp"},
		"backward range": {rule(func(r *api.PolicyRuleRequest) {
			r.Protocol = new(api.PolicyRuleRequestProtocolTcp)
			r.PortRanges = nullable.NewNullableWithValue([]api.PortRange{{Start: 9, End: 2}})
		}), "rules[0].port_ranges[0].end", "2 is below 9"},
		"ports and ranges": {rule(func(r *api.PolicyRuleRequest) {
			r.Protocol, r.Ports = new(api.PolicyRuleRequestProtocolTcp), ids("80")
			r.PortRanges = nullable.NewNullableWithValue([]api.PortRange{{Start: 1, End: 2}})
		}), "rules[0].ports", "only one of"},
		"port 0":         {rule(func(r *api.PolicyRuleRequest) { r.Protocol, r.Ports = new(api.PolicyRuleRequestProtocolTcp), ids("0") }), "rules[0].ports[0]", "must be a port"},
		"name twice":     {append(rule(nil), rule(nil)...), "rules[1].name", "occurs twice"},
		"no rule":        {[]api.PolicyRuleRequest{}, "rules", "at least 1"},
		"unknown action": {rule(func(r *api.PolicyRuleRequest) { r.Action = new(api.PolicyRuleRequestAction("reject")) }), "rules[0].action", "accept, drop"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{Name: "p", Rules: c.rules})
			refused(t, err, problem.KindInvalid, c.field, c.detail)
		})
	}
}

func TestPolicyAnswersByReference(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	peer := f.enroll("a")
	p := must(f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{{
		Name: "r", Sources: ids("web", "All"), Destinations: ids(),
		DestinationResource: nullable.NewNullableWithValue(api.RuleResource{Id: peer.Id, Type: "peer"}),
		Protocol:            new(api.PolicyRuleRequestProtocolNetbirdSsh),
	}}}))(t)
	r := p.Rules[0]
	if !p.Enabled || r.Id == "" || !r.Enabled || !r.Bidirectional || r.Protocol != "netbird-ssh" || r.Action != "accept" || p.Version != 1 {
		t.Fatalf("defaults: %+v", p)
	}
	if r.Destinations != nil || r.SourceResource != nil || r.Ports != nil || r.PortRanges != nil || r.DestinationResource == nil {
		t.Fatalf("unused ends and ports must be absent: %+v", r)
	}
	if sources := *r.Sources; sources[0].Id != web.Id || sources[1].Name != "All" || sources[1].PeersCount != 1 {
		t.Fatalf("sources: %+v", sources)
	}
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", `group has been linked to policy "p"`)
	refused(t, f.DeletePeer(t.Context(), f.owner, peer.Id, ""), problem.KindPrecondition, "", `is named by policy "p"; change that first`)
	if err := f.DeletePolicy(t.Context(), f.owner, p.Id, `"1"`); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteGroup(t.Context(), f.owner, web.Id, ""); err != nil {
		t.Fatal(err)
	}
	if err := f.DeletePeer(t.Context(), f.owner, peer.Id, ""); err != nil {
		t.Fatal(err)
	}
	refused(t, f.DeletePolicy(t.Context(), f.owner, p.Id, ""), problem.KindNotFound, "", "policy not found")
}

func TestRuleIDsStay(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	rules := func(list ...api.PolicyRuleRequest) api.PolicyRequest {
		for i := range list {
			list[i].Sources, list[i].Destinations = ids(web.Id), ids(web.Id)
		}
		return api.PolicyRequest{Name: "p", Rules: list}
	}
	p := must(f.CreatePolicy(t.Context(), f.owner, rules(api.PolicyRuleRequest{Name: "a"}, api.PolicyRuleRequest{Name: "b"})))(t)
	a, b := p.Rules[0].Id, p.Rules[1].Id
	p = must(f.UpdatePolicy(t.Context(), f.owner, p.Id, rules(api.PolicyRuleRequest{Name: "b"}, api.PolicyRuleRequest{Name: "a"}), ""))(t)
	if diff := cmp.Diff([]string{b, a}, []string{p.Rules[0].Id, p.Rules[1].Id}); diff != "" {
		t.Fatal(diff)
	}
	// An id that is sent renames its rule, and the old name is then a new rule.
	p = must(f.UpdatePolicy(t.Context(), f.owner, p.Id, rules(api.PolicyRuleRequest{Name: "a"}, api.PolicyRuleRequest{Id: &a, Name: "z"}), ""))(t)
	if p.Rules[1].Id != a || p.Rules[0].Id == a || p.Rules[0].Id == b {
		t.Fatalf("rules: %+v", p.Rules)
	}
	_, err := f.UpdatePolicy(t.Context(), f.owner, p.Id, rules(api.PolicyRuleRequest{Id: &b, Name: "b"}), "")
	refused(t, err, problem.KindInvalid, "rules[0].id", "unknown rule id")
	_, err = f.UpdatePolicy(t.Context(), f.owner, p.Id, rules(api.PolicyRuleRequest{Id: &a, Name: "b"}, api.PolicyRuleRequest{Id: &a, Name: "c"}), "")
	refused(t, err, problem.KindInvalid, "rules[1].id", "occurs twice")
}

func TestAuthorizedGroups(t *testing.T) {
	f := fresh(t)
	staff := f.group("staff")
	create := func(protocol api.PolicyRuleRequestProtocol, people map[string][]string) (api.Policy, error) {
		rule := api.PolicyRuleRequest{Name: "r", Protocol: &protocol, Sources: ids("All"), Destinations: ids("All")}
		rule.AuthorizedGroups.Set(people)
		return f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{rule}})
	}
	policy := must(create("ssh", map[string][]string{"staff": {"root", "deploy"}}))(t)
	if people := policy.Rules[0].AuthorizedGroups; people == nil || !slices.Equal((*people)[staff.Id], []string{"root", "deploy"}) || len(*people) != 1 {
		t.Fatalf("%+v", policy.Rules[0])
	}
	refused(t, f.DeleteGroup(t.Context(), f.owner, staff.Id, ""), problem.KindInUse, "", `linked to policy "p"`)
	_, err := create("tcp", map[string][]string{"staff": {"root"}})
	refused(t, err, problem.KindInvalid, "rules[0].authorized_groups", "must be ssh, not tcp")
	_, err = create("ssh", map[string][]string{"gone": {"root"}})
	refused(t, err, problem.KindInvalid, "rules[0].authorized_groups.gone", "unknown group id")
	_, err = create("ssh", map[string][]string{"staff": {"root"}, staff.Id: {"root"}})
	refused(t, err, problem.KindInvalid, "rules[0].authorized_groups.staff", "same group")
	for _, user := range []string{"Root", "a b", "-x", "", "../x"} {
		_, err = create("netbird-ssh", map[string][]string{"staff": {user}})
		refused(t, err, problem.KindInvalid, "", "")
	}
	_, err = create("ssh", map[string][]string{"staff": {}})
	refused(t, err, problem.KindInvalid, "", "")
	if none := must(create("ssh", nil))(t); none.Rules[0].AuthorizedGroups != nil {
		t.Errorf("%+v", none.Rules[0])
	}
}
