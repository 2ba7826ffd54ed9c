package runtime

import (
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/terraform"
)

// TestSettledAgreesWithFramework compares the short way with the framework's
// own plan, for each noun and each attribute left out, set to the default, to
// what the state has and to something else: where the short way says that
// nothing changes, the framework plans the prior state. What a person leaves
// alone takes the short way.
func TestSettledAgreesWithFramework(t *testing.T) {
	for _, n := range terraform.Nouns {
		if n.Schema == nil {
			continue
		}
		t.Run(n.Name, func(t *testing.T) {
			of, ok := n.Schema().Type().TerraformType(t.Context()).(tftypes.Object)
			if !ok {
				t.Fatal("no object")
			}
			f := formOf(t.Context(), n)
			whole := map[string]tftypes.Value{}
			for name, typ := range of.AttributeTypes {
				whole[name] = sampleValue(typ, 1)
			}
			for name, a := range n.Schema().Attributes {
				if a.IsWriteOnly() {
					whole[name] = tftypes.NewValue(of.AttributeTypes[name], nil)
				}
			}
			config := func(change func(map[string]tftypes.Value)) map[string]tftypes.Value {
				c := map[string]tftypes.Value{}
				for name, a := range n.Schema().Attributes {
					c[name] = whole[name]
					if !a.IsOptional() && !a.IsRequired() {
						c[name] = tftypes.NewValue(of.AttributeTypes[name], nil)
					}
				}
				if change != nil {
					change(c)
				}
				return c
			}
			if n.TakeSecrets == nil && !try(t, f, n, of, config(nil), whole) {
				t.Error("the state as it was configured is not seen to be settled")
			}
			for _, name := range slices.Sorted(maps.Keys(of.AttributeTypes)) {
				typ := of.AttributeTypes[name]
				try(t, f, n, of, config(func(c map[string]tftypes.Value) { c[name] = tftypes.NewValue(typ, nil) }), whole)
				try(t, f, n, of, config(func(c map[string]tftypes.Value) { c[name] = sampleValue(typ, 2) }), whole)
				prior := maps.Clone(whole)
				prior[name] = tftypes.NewValue(typ, nil)
				try(t, f, n, of, config(func(c map[string]tftypes.Value) { c[name] = tftypes.NewValue(typ, nil) }), prior)
				if value := defaultOf(t.Context(), n.Schema().Attributes[name]); value != nil {
					if prior[name], _ = value.ToTerraformValue(t.Context()); !try(t, f, n, of, config(func(c map[string]tftypes.Value) { c[name] = tftypes.NewValue(typ, nil) }), prior) && n.TakeSecrets == nil {
						t.Errorf("%s left out, with its default in the state, is not seen to be settled", name)
					}
				}
			}
		})
	}
}

// try plans both ways and reports whether the short way was open.
func try(t *testing.T, f *resourceForm, n *terraform.Noun, of tftypes.Object, config, prior map[string]tftypes.Value) bool {
	t.Helper()
	proposed := maps.Clone(prior) // as Terraform makes it
	for name, a := range n.Schema().Attributes {
		if v := config[name]; !v.IsNull() || !a.IsComputed() {
			proposed[name] = v
		}
	}
	req := &tfprotov6.PlanResourceChangeRequest{
		TypeName: "wattle_" + n.Name, Config: dynamic(t, of, config), PriorState: dynamic(t, of, prior), ProposedNewState: dynamic(t, of, proposed),
	}
	if !f.unchanged(req) {
		return false
	}
	p := &Provider{}
	resp, err := providerserver.NewProtocol6(p)().PlanResourceChange(t.Context(), req)
	if err != nil || len(resp.Diagnostics) > 0 {
		t.Fatalf("%v %+v", err, resp.Diagnostics)
	}
	got, err := resp.PlannedState.Unmarshal(of)
	if err != nil {
		t.Fatal(err)
	}
	if want := tftypes.NewValue(of, prior); !got.Equal(want) {
		diff, _ := want.Diff(got)
		t.Errorf("settled, but the framework plans a change: %v\nconfig %v", diff, config)
	}
	return true
}

func dynamic(t *testing.T, of tftypes.Object, members map[string]tftypes.Value) *tfprotov6.DynamicValue {
	t.Helper()
	v, err := tfprotov6.NewDynamicValue(of, tftypes.NewValue(of, members))
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

// sampleValue is a value of any type; another seed gives another value.
func sampleValue(typ tftypes.Type, seed int) tftypes.Value {
	switch typ := typ.(type) {
	case tftypes.Object:
		members := map[string]tftypes.Value{}
		for name, member := range typ.AttributeTypes {
			members[name] = sampleValue(member, seed)
		}
		return tftypes.NewValue(typ, members)
	case tftypes.Map:
		return tftypes.NewValue(typ, map[string]tftypes.Value{"one": sampleValue(typ.ElementType, seed)})
	case tftypes.List:
		return tftypes.NewValue(typ, []tftypes.Value{sampleValue(typ.ElementType, seed)})
	case tftypes.Set:
		return tftypes.NewValue(typ, []tftypes.Value{sampleValue(typ.ElementType, seed)})
	}
	switch {
	case typ.Is(tftypes.Bool):
		return tftypes.NewValue(typ, seed == 1)
	case typ.Is(tftypes.Number):
		return tftypes.NewValue(typ, 40+seed)
	}
	return tftypes.NewValue(typ, []string{"", "left", "right"}[seed])
}

// TestNestedDefaults: a default inside a map of objects counts.
func TestNestedDefaults(t *testing.T) {
	inner := form{members: map[string]form{"name": {}, "port": {fallback: []byte{80}, computed: true}}}
	f := form{members: map[string]form{"rules": {elements: &inner}}}
	rule := func(port byte) []byte {
		return append([]byte{0x81, 0xa5, 'r', 'u', 'l', 'e', 's', 0x81, 0xa1, 'a', 0x82, 0xa4, 'n', 'a', 'm', 'e', 0xa1, 'x', 0xa4, 'p', 'o', 'r', 't'}, port)
	}
	for _, c := range []struct {
		name          string
		config, prior []byte
		want          bool
	}{
		{"same", rule(81), rule(81), true},
		{"another", rule(81), rule(80), false},
		{"left out, at the default", rule(null), rule(80), true},
		{"left out, at another value", rule(null), rule(81), false},
		{"no map", rule(80)[:1], rule(80), false},
		{"cut off", rule(80)[:9], rule(80), false},
		{"null", []byte{null}, rule(80), false},
	} {
		if got := f.settled(c.config, c.prior); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestKnows: a state with an attribute that the schema does not have any more
// goes the framework's way, which drops it.
func TestKnows(t *testing.T) {
	inner := form{members: map[string]form{"port": {}}}
	f := form{members: map[string]form{"id": {}, "labels": {}, "rules": {elements: &inner}, "limits": inner}}
	for state, want := range map[string]bool{
		`{"id":"a","labels":{"x":"y"},"rules":{"a":{"port":1}},"limits":{"port":1}}`: true,
		`{"id":null}`:                        true,
		`{"old":1}`:                          false,
		`{"rules":{"a":{"old":1}}}`:          false,
		`{"rules":[{"port":1},{"old":1}]}`:   false,
		`{"limits":{"port":1,"old":[]}}`:     false,
		`{"id":`:                             false,
		`{"id":"a","rules":[{"port":null}]}`: true,
	} {
		if got := f.knows([]byte(state)); got != want {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
}
