// Package runtime gives every noun that generated/terraform describes the
// behaviour of a Terraform resource, its data sources and its ephemeral form.
//
//	openapi.yaml -> generated/terraform.Nouns -> runtime -> Terraform
//
// Nothing here knows a particular noun: a new one needs no line of this code.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
	pure "github.com/wattlenet/wattle/provider/internal/function"
)

// Provider is the Terraform provider over all nouns of the contract.
type Provider struct {
	version string
	conn    *connection // since Configure
}

var (
	_ provider.ProviderWithEphemeralResources = (*Provider)(nil)
	_ provider.ProviderWithListResources      = (*Provider)(nil)
	_ provider.ProviderWithFunctions          = (*Provider)(nil)
	_ provider.ProviderWithActions            = (*Provider)(nil)
)

// Metadata names the provider; the name is the prefix of every resource.
func (p *Provider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = terraform.ProviderName
	resp.Version = p.version
}

// Schema declares the provider's arguments.
func (p *Provider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Declares a WireGuard mesh network: groups, policies, setup keys and peers of a control plane. " +
			"Without arguments the provider reads the environment, then the credentials profile that `wattle-server up` wrote.",
		Attributes: map[string]schema.Attribute{
			"access_preview": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Whether a plan warns which pairs of machines gain or lose access: one request that stores nothing for each changed object whose values are known, at most 20 per plan. " +
					"A change is only asked about when the plan refreshed the object. `true` by default.",
			},
			"url": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Address of the control plane, such as `https://wattle.example.org:8443`. Else `WATTLE_URL`, else the profile.",
			},
			"token": schema.StringAttribute{
				Optional: true, Sensitive: true,
				MarkdownDescription: "Access token. Else `WATTLE_TOKEN`, else the profile. It may come from an ephemeral value.",
			},
			"account": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Id of the account to work in; an error if the token may not. Else `WATTLE_ACCOUNT`, else the token's own.",
			},
			"ca_pin": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "`sha256:` and the hexadecimal hash of the public key of the control plane's certificate authority. Else `WATTLE_CA_PIN`, else the profile when the url is the profile's.",
			},
			"profile": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Path of the credentials profile. Else `WATTLE_CREDENTIALS`, else `~/.config/wattle/credentials`.",
			},
		},
	}
}

// settings are the provider's arguments as written.
type settings struct {
	Preview types.Bool   `tfsdk:"access_preview"`
	URL     types.String `tfsdk:"url"`
	Token   types.String `tfsdk:"token"`
	Account types.String `tfsdk:"account"`
	CAPin   types.String `tfsdk:"ca_pin"`
	Profile types.String `tfsdk:"profile"`
}

func (s settings) unknown() bool {
	return s.URL.IsUnknown() || s.Token.IsUnknown() || s.Account.IsUnknown() || s.CAPin.IsUnknown() || s.Profile.IsUnknown()
}

// Configure makes the client. Arguments that are not known yet defer all work
// to the apply; no request is made before.
func (p *Provider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var s settings
	resp.Diagnostics.Append(req.Config.Get(ctx, &s)...)
	if resp.Diagnostics.HasError() {
		return
	}
	c := &connection{}
	p.conn = c
	if !s.Preview.IsNull() && !s.Preview.ValueBool() {
		c.previews.end()
	}
	if s.unknown() {
		if req.ClientCapabilities.DeferralAllowed {
			resp.Deferred = &provider.Deferred{Reason: provider.DeferredReasonProviderConfigUnknown}
		}
	} else {
		config, err := s.client()
		if err == nil {
			config.UserAgent = "terraform-provider-" + terraform.ProviderName + "/" + p.version + " terraform/" + req.TerraformVersion
			c.client, err = sdk.New(config)
		}
		if err != nil {
			resp.Diagnostics.AddAttributeError(path.Root("url"), "Cannot reach a control plane", sentence(err.Error()))
			return
		}
		if err := c.client.CheckAccount(ctx); err != nil {
			resp.Diagnostics.AddAttributeError(path.Root("account"), "Cannot work in this account", sentence(err.Error()))
			return
		}
	}
	resp.ResourceData, resp.DataSourceData, resp.EphemeralResourceData, resp.ListResourceData, resp.ActionData = c, c, c, c, c
}

// client merges arguments, environment and profile, in this order. The
// profile's pin and token belong to the profile's address.
func (s settings) client() (sdk.Config, error) {
	c := sdk.Config{
		URL:       first(s.URL.ValueString(), os.Getenv("WATTLE_URL")),
		Token:     first(s.Token.ValueString(), os.Getenv("WATTLE_TOKEN")),
		Account:   first(s.Account.ValueString(), os.Getenv("WATTLE_ACCOUNT")),
		CAPin:     first(s.CAPin.ValueString(), os.Getenv("WATTLE_CA_PIN")),
		ManagedBy: "terraform",
	}
	profile, err := sdk.ReadProfile(s.Profile.ValueString())
	switch {
	case err == nil && (c.URL == "" || c.URL == profile.URL):
		c.URL, c.Token, c.CAPin = profile.URL, first(c.Token, profile.Token), first(c.CAPin, profile.CAPin)
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || !s.Profile.IsNull()):
		return c, err
	}
	switch {
	case c.URL == "":
		return c, errors.New("no address of a control plane: set url, or WATTLE_URL, or run wattle-server up, which writes a credentials profile")
	case c.Token == "":
		return c, fmt.Errorf("no token for %s: set token, or WATTLE_TOKEN", c.URL)
	}
	return c, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// Resources is one resource per noun that can be managed.
func (p *Provider) Resources(context.Context) []func() resource.Resource {
	var out []func() resource.Resource
	for _, n := range terraform.Nouns {
		switch {
		case n.Schema == nil:
		case n.Key == "":
			out = append(out, func() resource.Resource { return &nounResource{noun: n} })
		default:
			out = append(out, func() resource.Resource { return &identifiedResource{nounResource{noun: n}} })
		}
	}
	return out
}

// Functions are pure: they need no control plane.
func (p *Provider) Functions(ctx context.Context) []func() function.Function { return pure.All(ctx) }

// DataSources is, per noun, one that reads an object and one that lists all;
// and one that lists what refers to an object of any noun.
func (p *Provider) DataSources(context.Context) []func() datasource.DataSource {
	out := []func() datasource.DataSource{func() datasource.DataSource { return &referrersSource{} }}
	for _, n := range terraform.Nouns {
		if n.Render != nil {
			out = append(out, func() datasource.DataSource { return &renderedSource{noun: n} })
			continue
		}
		out = append(out, func() datasource.DataSource { return &objectSource{noun: n} })
		if n.ListSchema != nil {
			out = append(out, func() datasource.DataSource { return &listSource{noun: n} })
		}
	}
	return out
}

// EphemeralResources is one per noun whose objects have a secret.
func (p *Provider) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	var out []func() ephemeral.EphemeralResource
	for _, n := range terraform.Nouns {
		if n.EphemeralSchema != nil {
			out = append(out, func() ephemeral.EphemeralResource { return &secretResource{noun: n} })
		}
	}
	return out
}
