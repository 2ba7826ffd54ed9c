package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// planned is a plan whose one map has the keys b and a.
type planned struct{}

func (planned) GetAttribute(_ context.Context, _ path.Path, target any) diag.Diagnostics {
	m := types.MapValueMust(types.StringType, map[string]attr.Value{"b": types.StringValue("2"), "a": types.StringValue("1")})
	if p, ok := target.(*attr.Value); ok {
		*p = m
	}
	return nil
}

func TestAttributePath(t *testing.T) {
	fields := []terraform.Field{
		{Wire: "name", Name: "name", Kind: "scalar"},
		{Wire: "prices", Name: "prices", Kind: "list"},
		{Wire: "rules", Name: "rules", Kind: "keyed", Key: "name", Fields: []terraform.Field{
			{Wire: "ports", Name: "ports", Kind: "set"},
			{Wire: "sourceResource", Name: "source_resource", Kind: "object", Fields: []terraform.Field{{Wire: "id", Name: "id", Kind: "scalar"}}},
		}},
	}
	for field, want := range map[string]string{
		"name":                       "name",
		"prices[2]":                  "prices[2]",
		"rules":                      "rules",
		"rules[0].ports":             `rules["a"].ports`,
		"rules[1].ports[0]":          `rules["b"].ports`,
		"rules[1].name":              `rules["b"]`,
		"rules[0].sourceResource.id": `rules["a"].source_resource.id`,
		"rules[7].ports":             "rules | rules[7].ports",
		"colour.red":                 " | colour.red",
		"name[x":                     "name",
	} {
		at, rest := attributePath(t.Context(), fields, field, planned{})
		got := at.String()
		if rest != "" {
			got += " | " + rest
		}
		if got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}

// TestExplain: what a person reads for each kind of error.
func TestExplain(t *testing.T) {
	lacking := "groups:create"
	problem := func(kind string, change func(*api.Problem)) error {
		p := api.NewProblem(kind)
		p.Detail = "something is wrong"
		if change != nil {
			change(&p)
		}
		return &sdk.Error{Problem: p, Method: "PUT", Path: "/x"}
	}
	for _, c := range []struct {
		name string
		err  error
		want []string // in summaries, details and paths
	}{
		{"permission", problem(api.ProblemForbidden, func(p *api.Problem) { p.Permission = &lacking }), []string{"Cannot update group", "groups:create"}},
		{"in use", problem(api.ProblemInUse, func(p *api.Problem) {
			p.Referrers = &[]api.Referrer{{Type: "setup_key", Id: "k1", Name: "lab", Field: "auto_groups"}}
		}), []string{`setup key "lab" (k1), field auto_groups`, "create_before_destroy"}},
		{"field", problem(api.ProblemInvalid, func(p *api.Problem) {
			p.Errors = &[]api.FieldError{{Field: "name", Detail: "must not be All"}, {Field: "peers[0]", Detail: "unknown peer id"}}
		}), []string{"at name", "Must not be All.", "at peers", "Unknown peer id."}},
		{"nested field", problem(api.ProblemInvalid, func(p *api.Problem) {
			p.Errors = &[]api.FieldError{{Field: "rules[1].ports", Detail: "need the protocol tcp"}}
		}), []string{`at rules["b"].ports`, `Attribute rules["b"].ports: need the protocol tcp.`}},
		{"name of somebody", problem(api.ProblemInvalid, func(p *api.Problem) {
			p.Errors = &[]api.FieldError{{Field: "name", Detail: "db.example is the domain of the peers"}}
		}), []string{"db.example is the domain of the peers."}},
		{"parent", problem(api.ProblemNotFound, nil), []string{"at network_id", "leads nowhere"}},
		{"changed", &changedError{[]string{"name"}, errors.New("x")}, []string{"It changed since it was planned: name", "Plan again"}},
		{"no answer", errors.New("no route"), []string{"No route."}},
		{"request id", problem(api.ProblemInternal, func(p *api.Problem) { p.RequestId = "r42" }), []string{"Request id: r42"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &nounResource{noun: &terraform.Noun{Name: "group", Fields: []terraform.Field{{Wire: "name", Name: "name", Kind: "scalar"}, {Wire: "peers", Name: "peers", Kind: "set"}, {Wire: "rules", Name: "rules", Kind: "keyed", Key: "name", Fields: []terraform.Field{{Wire: "ports", Name: "ports", Kind: "set"}}}}, Parents: []string{"network_id"}}}
			var d diag.Diagnostics
			r.explain(t.Context(), &d, "update", planned{}, c.err)
			var text strings.Builder
			for _, x := range d.Errors() {
				text.WriteString(x.Summary() + "\n" + x.Detail() + "\n")
				if at, ok := x.(diag.DiagnosticWithPath); ok {
					text.WriteString("at " + at.Path().String() + "\n")
				}
			}
			for _, want := range c.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("%q does not say %q", text.String(), want)
				}
			}
		})
	}
}
