package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/wattlenet/wattle/generated/terraform"
	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// TestPages: everything that the provider offers has its page, with each of
// its arguments, and no page is about something that it does not offer.
func TestPages(t *testing.T) {
	server := runtime.NewServer("test")()
	schemas, err := server.GetProviderSchema(context.Background(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string][]string{} // path below the folder -> what it must say
	add := func(folder, name string, blocks ...*tfprotov6.SchemaBlock) {
		page := filepath.Join(folder, strings.TrimPrefix(name, "wattle_")+".md")
		pages[page] = []string{"# "}
		for _, block := range blocks {
			for _, a := range block.Attributes {
				pages[page] = append(pages[page], "`"+a.Name+"`")
			}
		}
	}
	for name, s := range schemas.ResourceSchemas {
		add("resources", name, s.Block)
	}
	for _, n := range terraform.Nouns { // what is there without Terraform
		page := filepath.Join("resources", n.Name+".md")
		switch {
		case n.Schema == nil:
		case n.Kind == terraform.Adopted:
			pages[page] = append(pages[page], "This resource makes none: it takes in")
		case n.Kind == terraform.Singleton:
			pages[page] = append(pages[page], "there is nothing to import", "Destroying this resource")
		}
	}
	for name, s := range schemas.DataSourceSchemas {
		add("data-sources", name, s.Block)
	}
	for name, s := range schemas.EphemeralResourceSchemas {
		add("ephemeral-resources", name, s.Block)
	}
	for name, s := range schemas.ListResourceSchemas {
		add("list-resources", name, s.Block)
	}
	for name, s := range schemas.ActionSchemas {
		add("actions", name, s.Schema.Block)
	}
	for name, f := range schemas.Functions {
		add("functions", name)
		page := filepath.Join("functions", name+".md")
		pages[page] = append(pages[page], "# function: "+name, f.Summary, "provider::wattle::"+name+"(")
		for _, p := range f.Parameters {
			pages[page] = append(pages[page], "`"+p.Name+"`", p.Description)
		}
	}
	folder := "../generated/docs"
	err = filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		page, err := filepath.Rel(folder, path)
		if err != nil || page == "index.md" || strings.HasPrefix(page, "guides"+string(filepath.Separator)) {
			return err
		}
		if pages[page] == nil {
			t.Errorf("%s is about nothing that the provider offers", page)
		}
		text := content(t, path)
		for _, want := range pages[page] {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q", page, want)
			}
		}
		delete(pages, page)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for page := range pages {
		t.Errorf("%s is missing", page)
	}
}
