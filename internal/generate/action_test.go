package main

import (
	"strings"
	"testing"
)

// TestAction: an operation that the contract calls an action is given the ids
// of its path.
func TestAction(t *testing.T) {
	_, files := load(t, "testdata/library.yaml", "library")
	for path, parts := range map[string][]string{
		"terraform/actions.go":           {`Name: "dismiss_vendor"`, `{Name: "vendor_id"`, "return c.DeleteVendor(ctx, ids[0])"},
		"docs/actions/dismiss_vendor.md": {"action \"library_dismiss_vendor\" \"example\"", "Removes a vendor.", "- `vendor_id` (String)"},
		"docs/list-resources/book.md":    {"list \"library_book\" \"all\"", "provider = library"},
		"docs/functions/dns_label.md":    {"provider::library::dns_label("},
	} {
		for _, part := range parts {
			if !strings.Contains(string(files[path]), part) {
				t.Errorf("%s lacks %q:\n%s", path, part, files[path])
			}
		}
	}
}
