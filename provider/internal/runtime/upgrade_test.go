package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/terraform"
)

// upgradable is a noun with a past: of its attributes one was renamed, one
// inside a map and one inside a list were, two have another type, one is new.
var upgradable = &terraform.Noun{
	Name: "thing", Version: 3,
	Renamed: []terraform.Renamed{
		{Steps: []string{}, From: "title", Now: "name"},
		{Steps: []string{}, From: "parts", Now: "rules"},
		{Steps: []string{"rules", "*"}, From: "from", Now: "source"},
		{Steps: []string{"ranges", "*"}, From: "low", Now: "start"},
	},
	Synthetic: map[string]any{"key_in_state": false},
	Schema: func() schema.Schema {
		nested := schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{"source": schema.StringAttribute{}, "start": schema.Int64Attribute{}}}
		return schema.Schema{Version: 3, Attributes: map[string]schema.Attribute{
			"name":         schema.StringAttribute{Required: true},
			"rules":        schema.MapNestedAttribute{Optional: true, NestedObject: nested},
			"ranges":       schema.ListNestedAttribute{Optional: true, NestedObject: nested},
			"size":         schema.Int64Attribute{Optional: true},
			"mode":         schema.BoolAttribute{Optional: true},
			"labels":       schema.SetAttribute{Optional: true, ElementType: types.StringType},
			"key_in_state": schema.BoolAttribute{Optional: true},
		}}
	},
}

func TestUpgradeState(t *testing.T) {
	r := &nounResource{noun: upgradable}
	text := func(s any) tftypes.Value { return tftypes.NewValue(tftypes.String, s) }
	for _, c := range []struct {
		name, state string
		want        map[string]tftypes.Value // attributes that are not null, apart from key_in_state
	}{
		{"renamed", `{"title":"a"}`, map[string]tftypes.Value{"name": text("a")}},
		{"of today already", `{"name":"b","title":null}`, map[string]tftypes.Value{"name": text("b")}},
		{"unknown attribute", `{"name":"b","colour":{"deep":[1]}}`, map[string]tftypes.Value{"name": text("b")}},
		{"text to number", `{"size":"12"}`, map[string]tftypes.Value{"size": tftypes.NewValue(tftypes.Number, 12)}},
		{"large number", `{"size":9007199254740993}`, map[string]tftypes.Value{"size": tftypes.NewValue(tftypes.Number, int64(9007199254740993))}},
		{"list to set", `{"labels":["x"]}`, map[string]tftypes.Value{"labels": tftypes.NewValue(tftypes.Set{ElementType: tftypes.String}, []tftypes.Value{text("x")})}},
		{"no way from list to boolean", `{"mode":["x"]}`, nil},
		{"nothing", `{}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := upgraded(t, r, 0, c.state)
			for name, v := range got {
				want, ok := c.want[name]
				switch {
				case name == "key_in_state":
					want = tftypes.NewValue(tftypes.Bool, false)
				case !ok:
					want = tftypes.NewValue(v.Type(), nil)
				}
				if !v.Equal(want) {
					t.Errorf("%s is %s, want %s", name, v, want)
				}
			}
		})
	}
}

// TestUpgradeInsideCollections: every member is renamed in, and members that
// do not have the old name stay.
func TestUpgradeInsideCollections(t *testing.T) {
	r := &nounResource{noun: upgradable}
	got := upgraded(t, r, 2, `{"parts":{"one":{"from":"a"},"two":{"source":"b","from":"c"},"three":null},"ranges":[{"low":1},{}]}`)
	var rules, member map[string]tftypes.Value
	if err := got["rules"].As(&rules); err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for key, rule := range rules {
		if rule.IsNull() {
			continue
		}
		var source string
		if err := rule.As(&member); err != nil {
			t.Fatal(err)
		}
		if err := member["source"].As(&source); err != nil {
			t.Fatal(err)
		}
		sources[key] = source
	}
	if diff := cmp.Diff(map[string]string{"one": "a", "two": "b"}, sources); diff != "" {
		t.Error(diff)
	}
	var ranges []tftypes.Value
	if err := got["ranges"].As(&ranges); err != nil || len(ranges) != 2 {
		t.Fatalf("%v, %v", got["ranges"], err)
	}
	if err := ranges[0].As(&member); err != nil || !member["start"].Equal(tftypes.NewValue(tftypes.Number, 1)) {
		t.Errorf("%v, %v", member, err)
	}
}

func TestUpgradeOfWhatIsNoState(t *testing.T) {
	r := &nounResource{noun: upgradable}
	resp := &resource.UpgradeStateResponse{}
	r.upgrade(t.Context(), resource.UpgradeStateRequest{RawState: &tfprotov6.RawState{JSON: []byte("[")}}, resp)
	if !resp.Diagnostics.HasError() {
		t.Error("no error")
	}
}

// upgraded is the state that comes out of an upgrade from a version.
func upgraded(t *testing.T, r *nounResource, version int64, state string) map[string]tftypes.Value {
	t.Helper()
	upgrader, ok := r.UpgradeState(t.Context())[version]
	if !ok {
		t.Fatalf("no upgrade from version %d", version)
	}
	resp := &resource.UpgradeStateResponse{}
	upgrader.StateUpgrader(t.Context(), resource.UpgradeStateRequest{RawState: &tfprotov6.RawState{JSON: []byte(state)}}, resp)
	if resp.Diagnostics.HasError() {
		t.Fatal(resp.Diagnostics)
	}
	v, err := resp.DynamicValue.Unmarshal(r.noun.Schema().Type().TerraformType(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]tftypes.Value
	if err := v.As(&members); err != nil {
		t.Fatal(err)
	}
	return members
}
