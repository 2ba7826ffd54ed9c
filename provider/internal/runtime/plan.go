package runtime

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// ModifyPlan says at plan time what the change means beyond the object.
func (r *nounResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	r.leaveAlone(ctx, req, resp)
	req.Plan = resp.Plan
	r.hideSecrets(ctx, req, resp)
	r.previewAccess(ctx, req, resp)
}

// hideSecrets says that a secret which may not enter the state will be null
// there.
func (r *nounResource) hideSecrets(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if r.noun.TakeSecrets == nil || req.Plan.Raw.IsNull() {
		return
	}
	model := r.noun.NewModel()
	resp.Diagnostics.Append(req.Plan.Get(ctx, model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.noun.TakeSecrets(model)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, model)...)
}

// ValidateConfig refuses either-or attributes that are set together, or none
// of which is.
func (r *nounResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	for _, set := range r.noun.OneOf {
		limit(ctx, req.Config, set, exactlyOne, &resp.Diagnostics)
	}
	for _, set := range r.noun.AtMostOneOf {
		limit(ctx, req.Config, set, atMostOne, &resp.Diagnostics)
	}
	for _, set := range r.noun.AtLeastOneOf {
		limit(ctx, req.Config, set, atLeastOne, &resp.Diagnostics)
	}
}

// How many of some attributes may be set.
const (
	exactlyOne = "exactly one"
	atMostOne  = "at most one"
	atLeastOne = "at least one"
)

// limit refuses another number of set attributes than allowed. While one is
// unknown nothing is refused.
func limit(ctx context.Context, config tfsdk.Config, names []string, allowed string, d *diag.Diagnostics) {
	set := 0
	for _, name := range names {
		var v attr.Value
		d.Append(config.GetAttribute(ctx, path.Root(name), &v)...)
		if v == nil || v.IsUnknown() {
			return
		}
		if b, ok := v.(types.Bool); !v.IsNull() && (!ok || b.ValueBool()) {
			set++
		}
	}
	if set > 1 && allowed != atLeastOne || set < 1 && allowed != atMostOne {
		d.AddAttributeError(path.Root(names[0]), "Wrong combination of attributes", fmt.Sprintf("Set %s of %s; %d are set.", allowed, strings.Join(names, ", "), set))
	}
}
