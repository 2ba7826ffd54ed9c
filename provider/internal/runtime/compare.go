package runtime

import (
	"context"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// drift names the attributes in which an object differs from a state.
func (r *nounResource) drift(ctx context.Context, before tfsdk.State, object any, d *diag.Diagnostics) []string {
	return r.differing(ctx, before, object, r.wireAttributes(), d)
}

func (r *nounResource) wireAttributes() []string {
	var names []string
	for _, f := range r.noun.Fields {
		if f.Kind != "flat" {
			names = append(names, f.Name)
			continue
		}
		for _, inner := range f.Fields {
			names = append(names, inner.Name)
		}
	}
	return names
}

type modelled interface {
	attributes
	Get(context.Context, any) diag.Diagnostics
}

// differing names those of the attributes in which an object differs from a
// plan or a state. An optIn attribute that is null there differs never, nor
// does what create alone answers.
func (r *nounResource) differing(ctx context.Context, from modelled, object any, names []string, d *diag.Diagnostics) []string {
	model := r.noun.NewModel()
	d.Append(from.Get(ctx, model)...)
	r.noun.Flatten(ctx, object, model, d)
	s := r.noun.Schema()
	now := tfsdk.State{Schema: s, Raw: tftypes.NewValue(s.Type().TerraformType(ctx), nil)}
	d.Append(now.Set(ctx, model)...)
	var out []string
	for _, name := range names {
		var a, b attr.Value
		if s.Attributes[name] == nil {
			continue
		}
		d.Append(from.GetAttribute(ctx, path.Root(name), &a)...)
		d.Append(now.GetAttribute(ctx, path.Root(name), &b)...)
		if a != nil && !a.Equal(b) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
