package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	providerschema "github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
)

// standInFolder names the folder whose configuration a stand-in serves.
const standInFolder = "WATTLE_STAND_IN"

// standInName is the provider that this program was started as; empty when it
// was not started by Terraform.
func standInName() string {
	name, found := strings.CutPrefix(filepath.Base(os.Args[0]), "terraform-provider-")
	if !found || os.Getenv(standInFolder) == "" {
		return ""
	}
	return name
}

// serveStandIn is a provider that takes whatever the configuration in a folder
// gives to the resources of its name. It shows that an example is wired: that
// what the cloud is handed exists and has a value. What the cloud would make of
// it remains unknown.
func serveStandIn(name string) error {
	p := &standIn{name: name, resources: map[string]*block{}}
	if err := p.read(os.Getenv(standInFolder)); err != nil {
		return err
	}
	return providerserver.Serve(context.Background(), func() provider.Provider { return p }, providerserver.ServeOpts{
		Address: "registry.terraform.io/stand-in/" + name,
	})
}

type standIn struct {
	name      string
	settings  block
	resources map[string]*block
}

// A block is what a configuration sets somewhere.
type block struct {
	attributes map[string]bool
	blocks     map[string]*block
}

// read learns from a configuration which resources there are and what is set.
func (p *standIn) read(folder string) error {
	parser := hclparse.NewParser()
	return fs.WalkDir(os.DirFS(folder), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".tf" {
			return err
		}
		file, diagnostics := parser.ParseHCLFile(filepath.Join(folder, name))
		if diagnostics.HasErrors() {
			return diagnostics
		}
		body, ok := file.Body.(*hclsyntax.Body)
		if !ok {
			return errors.New("the configuration is not in the native syntax")
		}
		for _, b := range body.Blocks {
			switch {
			case b.Type == "provider" && b.Labels[0] == p.name:
				p.settings.learn(b.Body)
			case b.Type == "resource" && strings.HasPrefix(b.Labels[0], p.name+"_"):
				if p.resources[b.Labels[0]] == nil {
					p.resources[b.Labels[0]] = &block{}
				}
				p.resources[b.Labels[0]].learn(b.Body)
			}
		}
		return nil
	})
}

func (b *block) learn(body *hclsyntax.Body) {
	if b.attributes == nil {
		b.attributes, b.blocks = map[string]bool{}, map[string]*block{}
	}
	for name := range body.Attributes {
		b.attributes[name] = true
	}
	for _, inner := range body.Blocks {
		if slices.Contains([]string{"lifecycle", "connection", "provisioner"}, inner.Type) {
			continue
		}
		if b.blocks[inner.Type] == nil {
			b.blocks[inner.Type] = &block{}
		}
		b.blocks[inner.Type].learn(inner.Body)
	}
}

func (p *standIn) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = p.name
}

func (p *standIn) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema.Attributes = map[string]providerschema.Attribute{}
	for name := range p.settings.attributes {
		resp.Schema.Attributes[name] = providerschema.DynamicAttribute{Optional: true}
	}
}

func (p *standIn) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}

func (p *standIn) DataSources(context.Context) []func() datasource.DataSource { return nil }

func (p *standIn) Resources(context.Context) (list []func() resource.Resource) {
	for name, b := range p.resources {
		list = append(list, func() resource.Resource { return &standInResource{name, b} })
	}
	return list
}

type standInResource struct {
	name string
	set  *block
}

func (r *standInResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = r.name
}

func (r *standInResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema.Attributes, resp.Schema.Blocks = r.set.schema(func() schema.Attribute { return schema.DynamicAttribute{Optional: true} })
	resp.Schema.Attributes["id"] = schema.StringAttribute{
		Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
	}
}

// schema takes any value; inside blocks texts, numbers and booleans, since a
// collection holds values of one type.
func (b *block) schema(attribute func() schema.Attribute) (map[string]schema.Attribute, map[string]schema.Block) {
	attributes, blocks := map[string]schema.Attribute{}, map[string]schema.Block{}
	for name := range b.attributes {
		attributes[name] = attribute()
	}
	for name, inner := range b.blocks {
		as, bs := inner.schema(func() schema.Attribute { return schema.StringAttribute{Optional: true} })
		blocks[name] = schema.ListNestedBlock{NestedObject: schema.NestedBlockObject{Attributes: as, Blocks: bs}}
	}
	return attributes, blocks
}

// made numbers what the stand-in makes.
var made atomic.Int64

func (r *standInResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	resp.State.Raw = req.Plan.Raw
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), fmt.Sprint(r.name, "-", made.Add(1)))...)
}

func (r *standInResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

func (r *standInResource) Update(_ context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.State.Raw = req.Plan.Raw
}

func (r *standInResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
