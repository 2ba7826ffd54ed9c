package runtime

import (
	"context"
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-framework/ephemeral"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// secretResource is the ephemeral form of a noun with a secret: it makes an
// object when it is opened and removes it when it is closed, and what it shows
// stands in no plan and no state. Terraform opens it in plan and in apply.
type secretResource struct {
	noun *terraform.Noun
	conn *connection
}

var (
	_ ephemeral.EphemeralResourceWithConfigure = (*secretResource)(nil)
	_ ephemeral.EphemeralResourceWithClose     = (*secretResource)(nil)
)

func (s *secretResource) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.noun.Name
}

func (s *secretResource) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	resp.Schema = s.noun.EphemeralSchema()
}

func (s *secretResource) Configure(_ context.Context, req ephemeral.ConfigureRequest, _ *ephemeral.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		s.conn = c
	}
}

const idsKey = "ids"

// Open makes the object.
func (s *secretResource) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	d, n := &resp.Diagnostics, s.noun
	if !connected(s.conn, d) {
		return
	}
	shown, model := n.NewEphemeral(), n.NewModel()
	d.Append(req.Config.Get(ctx, shown)...)
	ids := parentIDs(ctx, n, req.Config, d)
	if d.HasError() {
		return
	}
	n.FromEphemeral(shown, model)
	object, err := n.Create(ctx, s.conn.client, ids, model, d)
	if err != nil || d.HasError() {
		if err != nil {
			report(d, "Cannot open "+spaced(n.Name), err)
		}
		return
	}
	raw, err := json.Marshal(append(ids, n.ID(object)))
	if err != nil {
		report(d, "Cannot open "+spaced(n.Name), err)
		return
	}
	d.Append(resp.Private.SetKey(ctx, idsKey, raw)...)
	n.Flatten(ctx, object, model, d)
	n.ToEphemeral(model, shown)
	d.Append(resp.Result.Set(ctx, shown)...)
}

// Close removes the object; what enrolled with it stays.
func (s *secretResource) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	d, n := &resp.Diagnostics, s.noun
	raw, more := req.Private.GetKey(ctx, idsKey)
	d.Append(more...)
	var ids []string
	if len(raw) == 0 || !connected(s.conn, d) {
		return
	}
	if err := json.Unmarshal(raw, &ids); err != nil {
		report(d, "Cannot close "+spaced(n.Name), err)
		return
	}
	if err := n.Delete(ctx, s.conn.client, ids); err != nil && !sdk.IsNotFound(err) {
		report(d, "Cannot close "+spaced(n.Name), err)
	}
}
