package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/terraform"
)

// UpgradeState leads states of all older versions of the schema to today's.
func (r *nounResource) UpgradeState(context.Context) map[int64]resource.StateUpgrader {
	out := map[int64]resource.StateUpgrader{}
	for version := range r.noun.Version {
		out[version] = resource.StateUpgrader{StateUpgrader: r.upgrade}
	}
	return out
}

// upgrade gives renamed attributes their names of today and drops those that
// are gone. What does not fit its new type becomes null; like what is new, it
// is filled by the read that follows.
func (r *nounResource) upgrade(ctx context.Context, req resource.UpgradeStateRequest, resp *resource.UpgradeStateResponse) {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(req.RawState.JSON))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		resp.Diagnostics.AddError("Cannot upgrade the state of "+spaced(r.noun.Name), sentence(fmt.Sprintf("it is not JSON: %v", err)))
		return
	}
	for _, x := range r.noun.Renamed {
		renameIn(members, x.Steps, x)
	}
	for name, value := range r.noun.Synthetic {
		if members[name] == nil {
			members[name] = value
		}
	}
	of, ok := r.noun.Schema().Type().TerraformType(ctx).(tftypes.Object)
	if !ok {
		panic("the type of a schema is no object")
	}
	values := map[string]tftypes.Value{}
	for name, typ := range of.AttributeTypes {
		values[name] = fitting(members[name], typ)
	}
	state, err := tfprotov6.NewDynamicValue(of, tftypes.NewValue(of, values))
	if err != nil {
		resp.Diagnostics.AddError("Cannot upgrade the state of "+spaced(r.noun.Name), sentence(err.Error()))
		return
	}
	resp.DynamicValue = &state
}

// renameIn follows the steps from v and renames there. A value that stands
// under the name of today already stays.
func renameIn(v any, steps []string, x terraform.Renamed) {
	switch v := v.(type) {
	case map[string]any:
		switch {
		case len(steps) == 0:
			if old, there := v[x.From]; there {
				if v[x.Now] == nil {
					v[x.Now] = old
				}
				delete(v, x.From)
			}
		case steps[0] == "*":
			for _, member := range v {
				renameIn(member, steps[1:], x)
			}
		default:
			renameIn(v[steps[0]], steps[1:], x)
		}
	case []any:
		if len(steps) > 0 && steps[0] == "*" {
			for _, member := range v {
				renameIn(member, steps[1:], x)
			}
		}
	}
}

// fitting is a decoded JSON value as a value of a type: numbers, texts and
// booleans are written as each other where they can be, anything else that
// does not fit is null.
func fitting(v any, typ tftypes.Type) tftypes.Value {
	raw, err := json.Marshal(v)
	if err != nil { // it was decoded from JSON
		panic(err)
	}
	value, err := tftypes.ValueFromJSONWithOpts(raw, typ, tftypes.ValueFromJSONOpts{IgnoreUndefinedAttributes: true})
	if err != nil {
		return tftypes.NewValue(typ, nil)
	}
	return value
}
