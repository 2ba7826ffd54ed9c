package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// closed is a network without the policy that allows everything, with the peers
// web-1 and web-2 in group web and db-1 in group db.
func closed(t *testing.T) (f *fixture, web, db api.Group, peers map[string]api.Peer) {
	t.Helper()
	f = fresh(t)
	policies, _, err := f.ListPolicies(t.Context(), f.owner, api.ListPoliciesParams{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range policies {
		if err := f.DeletePolicy(t.Context(), f.owner, p.Id, ""); err != nil {
			t.Fatal(err)
		}
	}
	peers = map[string]api.Peer{}
	for _, name := range []string{"web-1", "web-2", "db-1"} {
		peers[name] = f.enroll(name)
	}
	return f, f.group("web", peers["web-1"].Id, peers["web-2"].Id), f.group("db", peers["db-1"].Id), peers
}

func toDatabase(name string, port string) api.PolicyRequest {
	return api.PolicyRequest{Name: name, Rules: []api.PolicyRuleRequest{{
		Name: "sql", Sources: ids("web"), Destinations: ids("db"), Bidirectional: new(false),
		Protocol: new(api.PolicyRuleRequestProtocolTcp), Ports: ids(port),
	}}}
}

func pairsText(p api.AccessPairs) string {
	var list []string
	for _, pair := range p.Sample {
		list = append(list, fmt.Sprintf("%s>%s %v %v", pair.Source.Name, pair.Destination.Name, pair.Before, pair.After))
	}
	return fmt.Sprint(p.Count, ": ", strings.Join(list, ", "))
}

// previewed takes the preview out of the error of a trial.
func previewed(t *testing.T, err error) api.AccessPreview {
	t.Helper()
	var tried *Previewed
	if !errors.As(err, &tried) {
		t.Fatalf("got %v, want a preview", err)
	}
	return tried.Preview
}

func TestPreviewTellsAndStoresNothing(t *testing.T) {
	f, web, db, peers := closed(t)
	kept := must(f.CreatePolicy(t.Context(), f.owner, toDatabase("kept", "5432")))(t)
	a, err := f.account(f.owner.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	serial := a.engine.Serial()
	position, err := a.engine.Position(peers["db-1"].Id)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]struct {
		try                   func(ctx context.Context) error
		gained, lost, changed string
	}{
		"a policy that adds a port": {
			func(ctx context.Context) error {
				_, err := f.CreatePolicy(ctx, f.owner, toDatabase("new", "22"))
				return err
			}, "0: ", "0: ", "2: web-1>db-1 [tcp/5432] [tcp/22 tcp/5432], web-2>db-1 [tcp/5432] [tcp/22 tcp/5432]",
		},
		"another port": {
			func(ctx context.Context) error {
				_, err := f.UpdatePolicy(ctx, f.owner, kept.Id, toDatabase("kept", "5433"), "")
				return err
			}, "0: ", "0: ", "2: web-1>db-1 [tcp/5432] [tcp/5433], web-2>db-1 [tcp/5432] [tcp/5433]",
		},
		"the same again": {
			func(ctx context.Context) error {
				_, err := f.UpdatePolicy(ctx, f.owner, kept.Id, toDatabase("kept", "5432"), "")
				return err
			}, "0: ", "0: ", "0: ",
		},
		"the policy goes": {
			func(ctx context.Context) error { return f.DeletePolicy(ctx, f.owner, kept.Id, "") },
			"0: ", "2: web-1>db-1 [tcp/5432] [], web-2>db-1 [tcp/5432] []", "0: ",
		},
		"a group that changes places": {
			func(ctx context.Context) error {
				_, err := f.UpdateGroup(ctx, f.owner, db.Id, api.GroupRequest{Name: "db", Peers: ids(peers["web-2"].Id)}, "")
				return err
			}, "1: web-1>web-2 [] [tcp/5432]", "2: web-1>db-1 [tcp/5432] [], web-2>db-1 [tcp/5432] []", "0: ",
		},
		"one member more": {
			func(ctx context.Context) error {
				_, err := f.CreateGroupMembership(ctx, f.owner, web.Id, api.GroupMembershipRequest{PeerId: peers["db-1"].Id})
				return err
			}, "0: ", "0: ", "0: ", // nobody reaches itself
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			got := previewed(t, step.try(Preview(t.Context())))
			for what, pair := range map[string][2]string{
				"gained": {pairsText(got.Gained), step.gained}, "lost": {pairsText(got.Lost), step.lost}, "changed": {pairsText(got.Changed), step.changed},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
				}
			}
		})
	}
	if after, err := a.engine.Position(peers["db-1"].Id); err != nil || after != position || a.engine.Serial() != serial {
		t.Errorf("the map moved from %v to %v, error %v", position, after, err)
	}
	stored, err := f.beside(t.Context(), f.owner.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	if stored.row.Serial != serial || len(stored.policies.order) != 1 || len(stored.memberIDs(web.Id)) != 2 {
		t.Errorf("after the trials the store is at serial %d, was at %d, with %d policies", stored.row.Serial, serial, len(stored.policies.order))
	}
}

func TestPreviewChecksAsAnyWrite(t *testing.T) {
	f, _, _, _ := closed(t)
	ctx := Preview(t.Context())
	_, err := f.CreatePolicy(ctx, f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{{Name: "r", Sources: ids("nobody"), Destinations: ids("db")}}})
	refused(t, err, problem.KindInvalid, "rules[0].sources[0]", "unknown group")
	refused(t, f.DeletePolicy(ctx, f.owner, "gone", ""), problem.KindNotFound, "", "policy not found")
	kept := must(f.CreatePolicy(t.Context(), f.owner, toDatabase("kept", "5432")))(t)
	refused(t, f.DeletePolicy(ctx, f.owner, kept.Id, `"77"`), problem.KindPrecondition, "", "")
}

func TestExplainAccessInWords(t *testing.T) {
	f, _, _, peers := closed(t)
	must(f.CreatePolicy(t.Context(), f.owner, toDatabase("to the database", "5432")))(t)
	ask := func(source, destination string, port int) api.AccessExplanation {
		t.Helper()
		return must(f.ExplainAccess(t.Context(), f.owner, api.AccessQuestion{Source: source, Destination: destination, Port: new(port)}))(t)
	}
	allowed := ask("web-1", peers["db-1"].Id, 5432)
	if !allowed.Allowed || allowed.Rule == nil || allowed.Rule.PolicyName != "to the database" || allowed.Rule.RuleName != "sql" || allowed.Destination.Name != "db-1" {
		t.Errorf("an allowed packet is explained as %+v", allowed)
	}
	contains(t, allowed.Detail, `the rule "sql" of the policy "to the database" accepts it`)
	port := ask("web-1", "db-1", 22)
	if port.Allowed || port.Reason != "no_rule" || len(port.NearMisses) != 1 || port.NearMisses[0].Missing != "port" {
		t.Errorf("another port is explained as %+v", port)
	}
	contains(t, strings.Join(port.WhatWouldHelp, "; "), `add port 22 to the rule "sql"`)
	back := ask("db-1", "web-1", 5432)
	contains(t, strings.Join(back.WhatWouldHelp, "; "), "bidirectional")
	f.enroll("other")
	other := ask("other", "db-1", 5432)
	contains(t, strings.Join(other.WhatWouldHelp, "; "), "put other into a group that is a source of")
	contains(t, strings.Join(other.WhatWouldHelp, "; "), ": web")
	if self := ask("db-1", "db-1", 1); self.Reason != "same_machine" || self.Allowed {
		t.Errorf("a machine and itself are explained as %+v", self)
	}

	for _, c := range []struct {
		q             api.AccessQuestion
		field, detail string
	}{
		{api.AccessQuestion{Source: "web-1", Destination: "nobody", Port: new(1)}, "destination", `unknown peer or resource "nobody"`},
		{api.AccessQuestion{Source: "web-1", Destination: "db-1"}, "port", "is needed"},
		{api.AccessQuestion{Source: "web-1", Destination: "db-1", Port: new(1), Protocol: new(api.AccessQuestionProtocolIcmp)}, "port", "no meaning"},
		{api.AccessQuestion{Source: "web-1", Destination: "db-1", Port: new(1), Protocol: new(api.AccessQuestionProtocol("gre"))}, "protocol", "tcp, udp, icmp"},
	} {
		_, err := f.ExplainAccess(t.Context(), f.owner, c.q)
		refused(t, err, problem.KindInvalid, c.field, c.detail)
	}
}

func TestExplainAccessKnowsPosture(t *testing.T) {
	f := fresh(t)
	_, source, destination := guarded(f, guard("guard", "/usr/bin/guard"))
	ask := func() api.AccessExplanation {
		return must(f.ExplainAccess(t.Context(), f.owner, api.AccessQuestion{Source: source.Id, Destination: destination.Id, Port: new(22)}))(t)
	}
	f.reports(source, nil)
	x := ask()
	if x.Allowed || x.Reason != "no_rule" || len(x.NearMisses) != 1 || x.NearMisses[0].Missing != "posture" || !slices.Equal(x.NearMisses[0].PostureChecks, []string{"guard"}) {
		t.Errorf("without the program access is explained as %+v", x)
	}
	contains(t, strings.Join(x.WhatWouldHelp, "; "), `let source meet the posture checks of the policy "p": "guard" (`)
	contains(t, strings.Join(x.WhatWouldHelp, "; "), "/usr/bin/guard")
	f.reports(source, running("/usr/bin/guard"))
	if x := ask(); !x.Allowed || x.Rule == nil || x.Rule.PolicyName != "p" {
		t.Errorf("with the program access is explained as %+v", x)
	}
}

// A policy to a resource, tried before it is made and explained afterwards.
func TestAccessToResources(t *testing.T) {
	f, _, _, peers := closed(t)
	ctx := t.Context()
	lan := must(f.CreateNetwork(ctx, f.owner, api.NetworkRequest{Name: "lan"}))(t)
	must(f.CreateNetworkResource(ctx, f.owner, lan.Id, api.NetworkResourceRequest{Name: "printer", Address: "10.0.0.5", Groups: &[]string{"db"}}))(t)
	router := api.NetworkRouterRequest{Peer: nullable.NewNullableWithValue(peers["db-1"].Id)}
	must(f.CreatePolicy(ctx, f.owner, toDatabase("p", "631")))(t)

	_, err := f.CreateNetworkRouter(Preview(ctx), f.owner, lan.Id, router)
	got := previewed(t, err)
	if text := pairsText(got.Gained); text != "2: web-1>printer [] [tcp/631], web-2>printer [] [tcp/631]" || got.Gained.Sample[0].Destination.Type != api.AccessEndTypeResource {
		t.Errorf("a router would open %q", text)
	}
	ask := func() api.AccessExplanation {
		return must(f.ExplainAccess(ctx, f.owner, api.AccessQuestion{Source: "web-1", Destination: "printer", Port: new(631)}))(t)
	}
	if x := ask(); x.Allowed || x.Reason != "no_router" || len(x.WhatWouldHelp) != 1 {
		t.Errorf("without a router access is explained as %+v", x)
	}
	must(f.CreateNetworkRouter(ctx, f.owner, lan.Id, router))(t)
	if x := ask(); !x.Allowed || x.Rule.PolicyName != "p" || len(x.Routers) != 1 || x.Routers[0].Peer.Name != "db-1" {
		t.Errorf("with a router access is explained as %+v", x)
	}
	got = previewed(t, f.DeleteNetwork(Preview(ctx), f.owner, lan.Id, ""))
	if text := pairsText(got.Lost); text != "2: web-1>printer [tcp/631] [], web-2>printer [tcp/631] []" {
		t.Errorf("without the network they would lose %q", text)
	}
	reached := must(f.ListAccessiblePeers(ctx, f.owner, peers["web-1"].Id))(t)
	if len(reached) != 1 || reached[0].Name != "db-1" {
		t.Errorf("web-1 reaches %+v", reached)
	}
}
