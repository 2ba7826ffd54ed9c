package runtime

import (
	"context"

	datasource "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/list/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// listResource finds the objects of a noun that no configuration manages yet:
// terraform query, since Terraform 1.14.
type listResource struct{ identifiedResource }

var _ list.ListResourceWithConfigure = (*listResource)(nil)

// ListResources is one per resource whose objects can be listed.
func (p *Provider) ListResources(context.Context) []func() list.ListResource {
	var out []func() list.ListResource
	for _, n := range terraform.Nouns {
		if n.Schema != nil && n.Key != "" && n.List != nil {
			out = append(out, func() list.ListResource { return &listResource{identifiedResource{nounResource{noun: n}}} })
		}
	}
	return out
}

// ListResourceConfigSchema is the arguments of the list data source.
func (l *listResource) ListResourceConfigSchema(_ context.Context, _ list.ListResourceSchemaRequest, resp *list.ListResourceSchemaResponse) {
	source := l.noun.ListSchema()
	resp.Schema = schema.Schema{MarkdownDescription: source.MarkdownDescription, Attributes: map[string]schema.Attribute{}}
	for name, a := range source.Attributes {
		if name != l.noun.Plural {
			resp.Schema.Attributes[name] = argument(a)
		}
	}
}

// argument is an argument of a data source as one of a list.
func argument(a datasource.Attribute) schema.Attribute {
	need, may, doc := a.IsRequired(), a.IsOptional(), a.GetMarkdownDescription()
	switch a := a.(type) {
	case datasource.Int64Attribute:
		return schema.Int64Attribute{Required: need, Optional: may, MarkdownDescription: doc, Validators: a.Validators}
	case datasource.BoolAttribute:
		return schema.BoolAttribute{Required: need, Optional: may, MarkdownDescription: doc, Validators: a.Validators}
	case datasource.SetAttribute:
		// A list block has no sets; the order does not matter.
		return schema.ListAttribute{Required: need, Optional: may, MarkdownDescription: doc, ElementType: a.ElementType}
	case datasource.StringAttribute:
		return schema.StringAttribute{Required: need, Optional: may, MarkdownDescription: doc, Validators: a.Validators}
	}
	return schema.StringAttribute{Required: need, Optional: may, MarkdownDescription: doc}
}

// List gives each object's identity and, when asked, its state as after an import.
func (l *listResource) List(ctx context.Context, req list.ListRequest, stream *list.ListResultsStream) {
	var d diag.Diagnostics
	if !connected(l.conn, &d) {
		stream.Results = list.ListResultsStreamDiagnostics(d)
		return
	}
	opts := queryOf(ctx, l.noun, req.Config, &d)
	parents := parentIDs(ctx, l.noun, req.Config, &d)
	if d.HasError() {
		stream.Results = list.ListResultsStreamDiagnostics(d)
		return
	}
	stream.Results = func(push func(list.ListResult) bool) {
		count := int64(0)
		for object, err := range l.noun.List(ctx, l.conn.client, parents, opts...) {
			if sdk.IsNotFound(err) && len(parents) == 0 || req.Limit > 0 && count == req.Limit {
				return // a filter by name that matches nothing, or enough
			}
			if err != nil {
				report(&d, "Cannot list "+spaced(l.noun.Plural), err)
				push(list.ListResult{Diagnostics: d})
				return
			}
			if count++; !push(l.result(ctx, req, parents, object)) {
				return
			}
		}
	}
}

func (l *listResource) result(ctx context.Context, req list.ListRequest, parents []string, object any) list.ListResult {
	n, out := l.noun, req.NewListResult(ctx)
	ids := append(append([]string{}, parents...), n.ID(object))
	l.identify(ctx, out.Identity, ids, &out.Diagnostics)
	out.DisplayName = n.ID(object)
	for _, field := range n.Lookup {
		if text, err := attributeOf(ctx, n, object, field); err == nil && text != "" {
			out.DisplayName = text
			break
		}
	}
	if req.IncludeResource {
		l.fill(ctx, out.Resource, ids, object, &out.Diagnostics)
	}
	return out
}

// fill is an object as the state that an import and a read give.
func (l *listResource) fill(ctx context.Context, to *tfsdk.Resource, ids []string, object any, d *diag.Diagnostics) {
	n, s := l.noun, l.noun.Schema()
	state := tfsdk.State{Schema: s, Raw: tftypes.NewValue(s.Type().TerraformType(ctx), nil)}
	for i, name := range idNames(n) {
		d.Append(state.SetAttribute(ctx, path.Root(name), ids[i])...)
	}
	for name, value := range n.Synthetic {
		d.Append(state.SetAttribute(ctx, path.Root(name), value)...)
	}
	model := n.NewModel()
	state = l.wondering(state)
	d.Append(state.Get(ctx, model)...)
	n.Flatten(ctx, object, model, d)
	d.Append(to.Set(ctx, model)...)
}
