package runtime

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"

	"github.com/wattlenet/wattle/generated/terraform"
)

// renderedSource is the data source of a value that the server makes out of
// the arguments and does not keep.
type renderedSource struct {
	noun *terraform.Noun
	conn *connection
}

var (
	_ datasource.DataSourceWithConfigure      = (*renderedSource)(nil)
	_ datasource.DataSourceWithValidateConfig = (*renderedSource)(nil)
)

func (s *renderedSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.noun.Name
}

func (s *renderedSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = s.noun.DataSchema()
}

func (s *renderedSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		s.conn = c
	}
}

// ValidateConfig refuses either-or arguments that are set together, or none
// of which is.
func (s *renderedSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	for _, set := range s.noun.OneOf {
		limit(ctx, req.Config, set, exactlyOne, &resp.Diagnostics)
	}
	for _, set := range s.noun.AtMostOneOf {
		limit(ctx, req.Config, set, atMostOne, &resp.Diagnostics)
	}
	for _, set := range s.noun.AtLeastOneOf {
		limit(ctx, req.Config, set, atLeastOne, &resp.Diagnostics)
	}
}

// Read asks for the value. A refused argument is shown where it stands.
func (s *renderedSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	d, n := &resp.Diagnostics, s.noun
	if !connected(s.conn, d) {
		return
	}
	model := n.NewData()
	d.Append(req.Config.Get(ctx, model)...)
	ids := parentIDs(ctx, n, req.Config, d)
	if d.HasError() {
		return
	}
	object, err := n.Render(ctx, s.conn.client, ids, model, d)
	(&nounResource{noun: n}).explain(ctx, d, "render", req.Config, err)
	if d.HasError() {
		return
	}
	n.FlattenData(ctx, object, model, d)
	d.Append(resp.State.Set(ctx, model)...)
}
