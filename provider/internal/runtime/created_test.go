package runtime

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/wattlenet/wattle/generated/terraform"
)

// TestCreatedAgreesWithFramework compares the short way with the framework's own
// plan of a new object, for each noun and each attribute left out, set, and
// known after the apply only. What a person writes takes the short way.
func TestCreatedAgreesWithFramework(t *testing.T) {
	for _, n := range terraform.Nouns {
		if n.Schema == nil {
			continue
		}
		t.Run(n.Name, func(t *testing.T) {
			of, ok := n.Schema().Type().TerraformType(t.Context()).(tftypes.Object)
			if !ok {
				t.Fatal("no object")
			}
			f, framework := formOf(t.Context(), n), providerserver.NewProtocol6(&Provider{})()
			for _, nested := range []bool{false, true} { // what the objects within leave out
				for name := range n.Schema().Attributes {
					for _, lone := range []bool{false, true} {
						config := configOf(n.Schema(), of, nested, lone)
						for _, v := range []tftypes.Value{config[name], tftypes.NewValue(of.AttributeTypes[name], nil), tftypes.NewValue(of.AttributeTypes[name], tftypes.UnknownValue)} {
							c := maps.Clone(config)
							if c[name] = v; settable(n.Schema().Attributes[name]) || v.IsNull() {
								plannedAlike(t, framework, f, of, c)
							}
						}
					}
				}
			}
		})
	}
}

func settable(a schema.Attribute) bool { return a.IsOptional() || a.IsRequired() }

// configOf is a configuration of everything, or of what is required alone; sparse
// leaves out what the objects within need not say.
func configOf(s schema.Schema, of tftypes.Object, sparse, lone bool) map[string]tftypes.Value {
	c := map[string]tftypes.Value{}
	for name, a := range s.Attributes {
		typ := of.AttributeTypes[name]
		c[name] = tftypes.NewValue(typ, nil)
		if settable(a) && !a.IsWriteOnly() && (a.IsRequired() || !lone) {
			c[name] = sampleValue(typ, 1)
			if sparse {
				c[name] = terse(c[name], a)
			}
		}
	}
	return c
}

// terse leaves out of the objects in a value what need not be said.
func terse(v tftypes.Value, a schema.Attribute) tftypes.Value {
	var inner map[string]schema.Attribute
	switch a := a.(type) {
	case schema.SingleNestedAttribute:
		inner = a.Attributes
	case schema.MapNestedAttribute:
		inner = a.NestedObject.Attributes
	case schema.ListNestedAttribute:
		inner = a.NestedObject.Attributes
	case schema.SetNestedAttribute:
		inner = a.NestedObject.Attributes
	default:
		return v
	}
	out, err := tftypes.Transform(v, func(p *tftypes.AttributePath, member tftypes.Value) (tftypes.Value, error) {
		steps := p.Steps()
		if len(steps) == 0 {
			return member, nil
		}
		name, named := steps[len(steps)-1].(tftypes.AttributeName)
		if m, known := inner[string(name)]; named && known && m.IsOptional() {
			return tftypes.NewValue(member.Type(), nil), nil
		}
		return member, nil
	})
	if err != nil {
		panic(err)
	}
	return out
}

// plannedAlike plans a new object both ways.
func plannedAlike(t *testing.T, framework tfprotov6.ProviderServer, f *resourceForm, of tftypes.Object, config map[string]tftypes.Value) {
	t.Helper()
	nothing, err := tfprotov6.NewDynamicValue(of, tftypes.NewValue(of, nil))
	if err != nil {
		t.Fatal(err)
	}
	req := &tfprotov6.PlanResourceChangeRequest{
		TypeName: "wattle_" + f.noun.Name, Config: dynamic(t, of, config), PriorState: &nothing, ProposedNewState: dynamic(t, of, config),
	}
	got := f.created(req)
	if got == nil {
		if f.noun.TakeSecrets == nil && f.noun.WriteOnly == nil {
			t.Errorf("the short way is closed for %v", config)
		}
		return
	}
	want, err := framework.PlanResourceChange(t.Context(), req)
	if err != nil || len(want.Diagnostics) > 0 {
		t.Fatalf("%v %+v", err, want.Diagnostics)
	}
	if g, w := value(t, got, of), value(t, want, of); !g.Equal(w) {
		diff, _ := w.Diff(g)
		t.Errorf("planned otherwise by the framework: %v\nconfig %v", diff, config)
	}
	got.PlannedState = want.PlannedState
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answered otherwise by the framework (-want +got):\n%s", diff)
	}
}

func value(t *testing.T, resp *tfprotov6.PlanResourceChangeResponse, of tftypes.Object) tftypes.Value {
	t.Helper()
	v, err := resp.PlannedState.Unmarshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestCreatedInDoubt: what is no plain create goes the framework's way.
func TestCreatedInDoubt(t *testing.T) {
	object, nothing := &tfprotov6.DynamicValue{MsgPack: encode(t, map[string]any{"name": "x"})}, &tfprotov6.DynamicValue{MsgPack: []byte{null}}
	other := &tfprotov6.DynamicValue{MsgPack: encode(t, map[string]any{"name": "y"})}
	f := &resourceForm{noun: &terraform.Noun{}, root: form{members: map[string]form{"name": {}}}}
	for name, c := range map[string]struct {
		req  tfprotov6.PlanResourceChangeRequest
		open bool
	}{
		"create":                 {tfprotov6.PlanResourceChangeRequest{Config: object, PriorState: nothing, ProposedNewState: object}, true},
		"delete":                 {tfprotov6.PlanResourceChangeRequest{Config: nothing, PriorState: object, ProposedNewState: nothing}, false},
		"update":                 {tfprotov6.PlanResourceChangeRequest{Config: object, PriorState: other, ProposedNewState: object}, false},
		"nothing":                {tfprotov6.PlanResourceChangeRequest{Config: nothing, PriorState: nothing, ProposedNewState: nothing}, false},
		"other than configured":  {tfprotov6.PlanResourceChangeRequest{Config: object, PriorState: nothing, ProposedNewState: other}, false},
		"with something to keep": {tfprotov6.PlanResourceChangeRequest{Config: object, PriorState: nothing, ProposedNewState: object, PriorPrivate: []byte("{}")}, false},
		"empty":                  {tfprotov6.PlanResourceChangeRequest{}, false},
	} {
		if got := f.created(&c.req); (got != nil) != c.open {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestComplete: a default counts within objects and maps of objects, and is in
// doubt within lists and sets of them.
func TestComplete(t *testing.T) {
	port := form{fallback: encode(t, 80), computed: true}
	inner := form{members: map[string]form{"name": {}, "port": port}}
	f := form{members: map[string]form{"id": {computed: true}, "one": inner, "all": {elements: &inner}, "some": {elements: &inner, set: true}}}
	unsaid := map[string]any{"name": "a", "port": nil}
	for _, c := range []struct {
		name         string
		config, want any
	}{
		{"nothing said", map[string]any{"id": nil, "one": nil, "all": nil}, map[string]any{"id": later{}, "one": nil, "all": nil}},
		{"object", map[string]any{"one": unsaid}, map[string]any{"one": map[string]any{"name": "a", "port": 80}}},
		{"map", map[string]any{"all": map[string]any{"x": unsaid}}, map[string]any{"all": map[string]any{"x": map[string]any{"name": "a", "port": 80}}}},
		{"empty map", map[string]any{"all": map[string]any{}}, map[string]any{"all": map[string]any{}}},
		{"known later", map[string]any{"one": later{}, "all": later{}}, map[string]any{"one": later{}, "all": later{}}},
		{"list", map[string]any{"all": []any{unsaid}}, map[string]any{"all": []any{map[string]any{"name": "a", "port": 80}}}},
		{"set", map[string]any{"some": []any{unsaid}}, nil},
		{"strange", map[string]any{"old": 1}, nil},
		{"no object", 1, nil},
	} {
		got, ok := f.complete(encode(t, c.config))
		if ok != (c.want != nil) {
			t.Errorf("%s: %v", c.name, ok)
		}
		if want := encode(t, c.want); ok && !slices.Equal(got, want) {
			t.Errorf("%s: %x, want %x", c.name, got, want)
		}
	}
	whole := encode(t, map[string]any{"id": nil, "one": unsaid})
	for n := range whole {
		if _, ok := f.complete(whole[:n]); ok {
			t.Errorf("cut off after %d bytes, and complete", n)
		}
	}
}

// TestKnown finds what is known later wherever it is, and nowhere else.
func TestKnown(t *testing.T) {
	for _, c := range []struct {
		value any
		want  bool
	}{
		{map[string]any{"a": []any{"x", 1, nil, true, 54272, 0, 1.5}, "b": map[string]any{}}, true},
		{later{}, false},
		{map[string]any{"a": []any{"x", map[string]any{"b": later{}}}}, false},
		{[]any{1, later{}}, false},
	} {
		if got := known(encode(t, c.value)); got != c.want {
			t.Errorf("%v: %v", c.value, got)
		}
	}
	if known(nil) || known(encode(t, []any{"cut off"})[:3]) {
		t.Error("half a value is known")
	}
}

// later is what is known after the apply only.
type later struct{}

func (later) MarshalMsgpack() ([]byte, error) { return unknown, nil }

func encode(t *testing.T, v any) []byte {
	t.Helper()
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	var out bytes.Buffer
	e.Reset(&out)
	e.SetSortMapKeys(true)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
