package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

var terraformBlock = regexp.MustCompile("(?s)```(?:terraform|hcl)\n(.*?)```")

// withoutProvider is what a page leaves to the reader who comes from another one.
const withoutProvider = `
terraform {
  required_providers {
    wattle = { source = "wattlenet/wattle" }
  }
}
`

// TestGuides applies what the guides, the README and the pages beside it show, plans nothing, and destroys it.
func TestGuides(t *testing.T) {
	pages, err := filepath.Glob("../generated/docs/guides/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d guides, %v", len(pages), err)
	}
	beside, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(append(pages, "../README.md"), beside...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var config strings.Builder
		for _, block := range terraformBlock.FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(block[1], "provider_installation") { // for Terraform itself
				config.WriteString(block[1])
			}
		}
		if config.Len() == 0 {
			continue // about commands alone
		}
		if !strings.Contains(config.String(), "required_providers") {
			config.WriteString(withoutProvider)
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			plane := controlplanetest.New(t)
			c := newCommand(t, plane, plane.URL)
			if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(config.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			c.run(t, 0, "fmt", "-check")
			c.run(t, 0, "apply", "-auto-approve", "-input=false")
			c.run(t, 0, "plan", "-detailed-exitcode", "-input=false")
			c.run(t, 0, "destroy", "-auto-approve", "-input=false")
		})
	}
}
