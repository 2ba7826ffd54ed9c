package runtime

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/terraform"
)

// referrersSource is the data source of what uses an object of any noun.
type referrersSource struct{ conn *connection }

var (
	_ datasource.DataSourceWithConfigure      = (*referrersSource)(nil)
	_ datasource.DataSourceWithValidateConfig = (*referrersSource)(nil)
)

func (s *referrersSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_referrers"
}

// Schema is described for readers in internal/generate/static/pages.
func (s *referrersSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	told := func(doc string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: doc}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists what refers to an object and so keeps it from being deleted.",
		Attributes: map[string]schema.Attribute{
			"type":      schema.StringAttribute{Required: true, MarkdownDescription: "The noun of the object, such as `group` or `peer`."},
			"id":        schema.StringAttribute{Required: true, MarkdownDescription: "The id of the object."},
			"parent_id": schema.StringAttribute{Optional: true, MarkdownDescription: "The id of the object that it lies in, for nouns that have a parent."},
			"referrers": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "What refers to it, in the order of the server.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"type":  told("The noun of the referring object, such as `policy`."),
					"id":    told("The id of the referring object."),
					"name":  told("The name of the referring object."),
					"field": told("The field that holds the reference, such as `rules.sources`."),
				}},
			},
		},
	}
}

func (s *referrersSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		s.conn = c
	}
}

type referrersModel struct {
	Type      types.String    `tfsdk:"type"`
	ID        types.String    `tfsdk:"id"`
	ParentID  types.String    `tfsdk:"parent_id"`
	Referrers []referrerModel `tfsdk:"referrers"`
}

type referrerModel struct {
	Type  string `tfsdk:"type"`
	ID    string `tfsdk:"id"`
	Name  string `tfsdk:"name"`
	Field string `tfsdk:"field"`
}

// referred is the noun of that name of whose objects the server tells what
// refers to them; nil and the names of those that there are without one.
func referred(name string) (*terraform.Noun, []string) {
	var known []string
	for _, n := range terraform.Nouns {
		if n.Referrers == nil {
			continue
		}
		if known = append(known, n.Name); n.Name == name {
			return n, nil
		}
	}
	return nil, known
}

// ValidateConfig refuses nouns that nothing is told of, and parents where
// there are none.
func (s *referrersSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	d := &resp.Diagnostics
	var kind, parent types.String
	d.Append(req.Config.GetAttribute(ctx, path.Root("type"), &kind)...)
	d.Append(req.Config.GetAttribute(ctx, path.Root("parent_id"), &parent)...)
	if kind.IsUnknown() || kind.IsNull() {
		return
	}
	n, known := referred(kind.ValueString())
	switch {
	case n == nil:
		d.AddAttributeError(path.Root("type"), "No such noun", fmt.Sprintf("The server tells what refers to a %s; not to a %q.", strings.Join(known, ", "), kind.ValueString()))
	case parent.IsUnknown():
	case parent.IsNull() && len(n.Parents) > 0:
		d.AddAttributeError(path.Root("parent_id"), "No parent", fmt.Sprintf("A %s lies in another object: give its %s.", spaced(n.Name), strings.Join(n.Parents, ", ")))
	case !parent.IsNull() && len(n.Parents) == 0:
		d.AddAttributeError(path.Root("parent_id"), "Surplus parent", fmt.Sprintf("A %s lies in no other object.", spaced(n.Name)))
	}
}

// Read asks for the referrers; none is an empty list.
func (s *referrersSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	d := &resp.Diagnostics
	if !connected(s.conn, d) {
		return
	}
	m := referrersModel{}
	for name, v := range map[string]*types.String{"type": &m.Type, "id": &m.ID, "parent_id": &m.ParentID} {
		d.Append(req.Config.GetAttribute(ctx, path.Root(name), v)...)
	}
	n, _ := referred(m.Type.ValueString())
	if d.HasError() || n == nil { // ValidateConfig refused it
		return
	}
	ids := []string{m.ParentID.ValueString(), m.ID.ValueString()}
	if len(n.Parents) == 0 {
		ids = ids[1:]
	}
	list, err := n.Referrers(ctx, s.conn.client, ids)
	if err != nil {
		report(d, "Cannot list what refers to a "+spaced(n.Name), err)
		return
	}
	m.Referrers = make([]referrerModel, 0, len(list))
	for _, r := range list {
		r.Type = strings.ReplaceAll(r.Type, "-", "_") // as Terraform calls the noun
		m.Referrers = append(m.Referrers, referrerModel(r))
	}
	d.Append(resp.State.Set(ctx, m)...)
}
