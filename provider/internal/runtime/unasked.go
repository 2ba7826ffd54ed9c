package runtime

import (
	"context"
	"maps"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// An optIn attribute that a configuration leaves out is left alone: it is never
// sent, and never a change. What the state has of it depends on how the object
// came there:
//
//	created                     -> null, and stays null
//	imported, or asked for once -> what the object has, read with the rest
//
// So a plan after an import is empty, whether the configuration has the
// attribute or not.

// unasked names the optIn attributes that a configuration leaves out. A
// singleton has none of them: there, to leave one out is to give it back.
func (r *nounResource) unasked(ctx context.Context, config tfsdk.Config, d *diag.Diagnostics) (names []string) {
	if r.noun.Key == "" {
		return nil
	}
	for _, name := range r.noun.OptIn {
		var v attr.Value
		d.Append(config.GetAttribute(ctx, path.Root(name), &v)...)
		if v != nil && v.IsNull() {
			names = append(names, name)
		}
	}
	return names
}

// leaveAlone plans for what is not asked for what the state has.
func (r *nounResource) leaveAlone(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	has := membersOf(req.State.Raw)
	resp.Plan.Raw = exchanged(resp.Plan.Raw, r.unasked(ctx, req.Config, &resp.Diagnostics), func(name string, typ tftypes.Type) tftypes.Value {
		if v, ok := has[name]; ok {
			return v
		}
		return tftypes.NewValue(typ, nil)
	})
}

// leave puts what the plan of an update has of the attributes that are not
// asked for into the state after it, and reports whether that is anything: by
// now the object may have something else.
func leave(state *tfsdk.State, plan tfsdk.Plan, names []string) (some bool) {
	planned := membersOf(plan.Raw)
	state.Raw = exchanged(state.Raw, names, func(name string, _ tftypes.Type) tftypes.Value {
		some = some || !planned[name].IsNull()
		return planned[name]
	})
	return some
}

// wondering is a state with its optIn attributes unknown, so that Flatten fills
// them. Those of a singleton stay null: to be there and not in the
// configuration would give them back.
func (r *nounResource) wondering(state tfsdk.State) tfsdk.State {
	if r.noun.Key != "" {
		state.Raw = exchanged(state.Raw, r.noun.OptIn, func(_ string, typ tftypes.Type) tftypes.Value { return tftypes.NewValue(typ, tftypes.UnknownValue) })
	}
	return state
}

// without is an object with some members null.
func without(object tftypes.Value, names []string) tftypes.Value {
	return exchanged(object, names, func(_ string, typ tftypes.Type) tftypes.Value { return tftypes.NewValue(typ, nil) })
}

// exchanged is an object with other values of some members; null stays null.
func exchanged(object tftypes.Value, names []string, by func(name string, typ tftypes.Type) tftypes.Value) tftypes.Value {
	if len(names) == 0 || object.IsNull() {
		return object
	}
	members := maps.Clone(membersOf(object)) // they are the object's own
	for _, name := range names {
		members[name] = by(name, members[name].Type())
	}
	return tftypes.NewValue(object.Type(), members)
}

// membersOf are the members of a plan or a state; none when it is null.
func membersOf(object tftypes.Value) map[string]tftypes.Value {
	var members map[string]tftypes.Value
	if err := object.As(&members); err != nil { // they are objects
		panic(err)
	}
	return members
}
