package runtime

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// listSource is the data source of all objects of a noun, or of those that
// match its filters.
type listSource struct {
	noun *terraform.Noun
	conn *connection
}

var _ datasource.DataSourceWithConfigure = (*listSource)(nil)

func (s *listSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.noun.Plural
}

func (s *listSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = s.noun.ListSchema()
}

func (s *listSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		s.conn = c
	}
}

// Read lists what the filters let through; nothing is an empty list.
func (s *listSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	d, n := &resp.Diagnostics, s.noun
	if !connected(s.conn, d) {
		return
	}
	opts := queryOf(ctx, n, req.Config, d)
	ids := parentIDs(ctx, n, req.Config, d)
	if d.HasError() {
		return
	}
	objects := []any{}
	for object, err := range n.List(ctx, s.conn.client, ids, opts...) {
		if sdk.IsNotFound(err) && len(ids) == 0 {
			break // a filter by name that matches nothing
		}
		if err != nil {
			report(d, "Cannot list "+spaced(n.Plural), err)
			return
		}
		objects = append(objects, object)
	}
	resp.State.Raw = req.Config.Raw
	d.Append(resp.State.SetAttribute(ctx, path.Root(n.Plural), n.FlattenList(ctx, objects, d))...)
}

// queryOf is the arguments of a list as query parameters.
func queryOf(ctx context.Context, n *terraform.Noun, config tfsdk.Config, d *diag.Diagnostics) []sdk.CallOption {
	var opts []sdk.CallOption
	for _, f := range n.Filters {
		var v attr.Value
		d.Append(config.GetAttribute(ctx, path.Root(f.Name), &v)...)
		if v == nil || v.IsNull() || v.IsUnknown() {
			continue
		}
		switch v := v.(type) {
		case types.String:
			opts = append(opts, sdk.Query(f.Wire, v.ValueString()))
		case types.Int64:
			opts = append(opts, sdk.Query(f.Wire, fmt.Sprint(v.ValueInt64())))
		case types.Bool:
			opts = append(opts, sdk.Query(f.Wire, fmt.Sprint(v.ValueBool())))
		case interface {
			ElementsAs(context.Context, any, bool) diag.Diagnostics
		}:
			var parts []string
			d.Append(v.ElementsAs(ctx, &parts, false)...)
			opts = append(opts, sdk.Query(f.Wire, strings.Join(parts, ",")))
		}
	}
	return opts
}
