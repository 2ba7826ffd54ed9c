package runtime

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/action/schema"

	"github.com/wattlenet/wattle/generated/terraform"
)

// operation is an action: one operation of the contract that Terraform runs
// when it is told to, since Terraform 1.14.
type operation struct {
	action *terraform.Action
	conn   *connection
}

var _ action.ActionWithConfigure = (*operation)(nil)

// Actions is one per operation that the contract names as an action.
func (p *Provider) Actions(context.Context) []func() action.Action {
	var out []func() action.Action
	for _, a := range terraform.Actions {
		out = append(out, func() action.Action { return &operation{action: a} })
	}
	return out
}

func (o *operation) Metadata(_ context.Context, req action.MetadataRequest, resp *action.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + o.action.Name
}

// Schema has the ids in the operation's path as arguments.
func (o *operation) Schema(_ context.Context, _ action.SchemaRequest, resp *action.SchemaResponse) {
	resp.Schema = schema.Schema{MarkdownDescription: o.action.Description, Attributes: map[string]schema.Attribute{}}
	for _, p := range o.action.Parameters {
		resp.Schema.Attributes[p.Name] = schema.StringAttribute{Required: true, MarkdownDescription: p.Description}
	}
}

func (o *operation) Configure(_ context.Context, req action.ConfigureRequest, _ *action.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		o.conn = c
	}
}

// Invoke runs the operation.
func (o *operation) Invoke(ctx context.Context, req action.InvokeRequest, resp *action.InvokeResponse) {
	d := &resp.Diagnostics
	if !connected(o.conn, d) {
		return
	}
	var ids []string
	for _, p := range o.action.Parameters {
		ids = append(ids, text(ctx, req.Config, p.Name, d))
	}
	if d.HasError() {
		return
	}
	if err := o.action.Run(ctx, o.conn.client, ids); err != nil {
		report(d, "Cannot "+spaced(o.action.Name), err)
	}
}
