package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// objectSource is the data source of one object, found by its id or by one of
// the fields that look it up.
type objectSource struct {
	noun *terraform.Noun
	conn *connection
}

var _ datasource.DataSourceWithConfigure = (*objectSource)(nil)

const waitFor = "wait_for" // the argument of nouns that come by themselves

func (s *objectSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.noun.Name
}

func (s *objectSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = s.noun.DataSchema()
	if s.noun.Kind == terraform.Adopted {
		resp.Schema.Attributes[waitFor] = schema.StringAttribute{
			Optional:            true,
			MarkdownDescription: "How long to wait until the " + spaced(s.noun.Name) + " is there, such as `5m`. Without it, a missing one is an error at once.",
		}
	}
}

func (s *objectSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		s.conn = c
	}
}

// Read finds the object, waiting for it if asked.
func (s *objectSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	d, n := &resp.Diagnostics, s.noun
	if !connected(s.conn, d) {
		return
	}
	wait := s.patience(ctx, req.Config, d)
	field, value := s.selector(ctx, req.Config, d)
	ids := parentIDs(ctx, n, req.Config, d)
	if d.HasError() {
		return
	}
	object, err := patiently(ctx, wait, func() (any, bool, error) {
		if field == "" || field == n.Key {
			if n.Key != "" {
				ids = append(ids[:len(n.Parents)], value)
			}
			object, err := n.Read(ctx, s.conn.client, ids)
			return object, sdk.IsNotFound(err), err
		}
		return lookUp(ctx, s.conn.client, n, ids, field, value)
	})
	if err != nil {
		report(d, "Cannot read "+spaced(n.Name), err)
		return
	}
	state := dataState(ctx, n, object, d)
	if d.HasError() {
		return
	}
	for _, name := range n.Parents { // the answer need not repeat them
		d.Append(state.SetAttribute(ctx, path.Root(name), text(ctx, req.Config, name, d))...)
	}
	resp.State.Raw = s.graft(ctx, state, req.Config, d)
}

// graft adds the data source's own argument to an object's state.
func (s *objectSource) graft(ctx context.Context, state tfsdk.State, config tfsdk.Config, d *diag.Diagnostics) tftypes.Value {
	if s.noun.Kind != terraform.Adopted {
		return state.Raw
	}
	var given, members map[string]tftypes.Value
	if err := errors.Join(config.Raw.As(&given), state.Raw.As(&members)); err != nil {
		d.AddError("Cannot read "+spaced(s.noun.Name), sentence(err.Error()))
		return state.Raw
	}
	members = maps.Clone(members)
	members[waitFor] = given[waitFor]
	return tftypes.NewValue(config.Schema.Type().TerraformType(ctx), members)
}

func (s *objectSource) patience(ctx context.Context, config tfsdk.Config, d *diag.Diagnostics) time.Duration {
	if s.noun.Kind != terraform.Adopted {
		return 0
	}
	given := text(ctx, config, waitFor, d)
	if given == "" {
		return 0
	}
	wait, err := time.ParseDuration(given)
	if err != nil || wait < 0 {
		d.AddAttributeError(path.Root(waitFor), "Not a duration", fmt.Sprintf("%q is not a duration such as 30s or 5m.", given))
	}
	return wait
}

// selector is the one of id and lookup fields that is set.
func (s *objectSource) selector(ctx context.Context, config tfsdk.Config, d *diag.Diagnostics) (field, value string) {
	n := s.noun
	if n.Key == "" {
		return "", ""
	}
	names := append([]string{n.Key}, n.Lookup...)
	for _, name := range names {
		var v types.String
		d.Append(config.GetAttribute(ctx, path.Root(name), &v)...)
		if v.IsNull() {
			continue
		}
		if field != "" {
			d.AddAttributeError(path.Root(name), "Wrong combination of attributes", fmt.Sprintf("Set exactly one of %s.", strings.Join(names, ", ")))
		}
		field, value = name, v.ValueString()
	}
	if field == "" {
		d.AddError("Nothing says which "+spaced(n.Name)+" is meant", fmt.Sprintf("Set exactly one of %s.", strings.Join(names, ", ")))
	}
	return field, value
}

// patiently repeats find while what it looks for is missing and time is left.
func patiently(ctx context.Context, wait time.Duration, find func() (object any, missing bool, err error)) (any, error) {
	deadline := time.Now().Add(wait)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		object, missing, err := find()
		if !missing || time.Now().Add(pause).After(deadline) {
			return object, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

// report adds an error of a data source or an ephemeral resource.
func report(d *diag.Diagnostics, summary string, err error) {
	if p, ok := sdk.AsProblem(err); ok {
		d.AddError(summary, describe(p, err)+faultList(p))
		return
	}
	d.AddError(summary, sentence(err.Error()))
}
