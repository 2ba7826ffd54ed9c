package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRenderedNoun: a value that the server makes and does not keep is a data
// source with the request as arguments, and neither resource nor list.
func TestRenderedNoun(t *testing.T) {
	m, files := load(t, "testdata/library.yaml", "library")
	i := slices.IndexFunc(m.Nouns, func(n *noun) bool { return n.Name == "label" })
	if i < 0 {
		t.Fatal("no noun")
	}
	n := m.Nouns[i]
	if n.Resource != nil || n.List != nil || n.Key != "" {
		t.Errorf("a rendered noun has a resource, a list or a key: %+v", n)
	}
	want := map[string]struct {
		mode      mode
		sensitive bool
	}{
		"title": {required, false}, "size": {optionalComputed, false}, "stars": {optional, false}, "stamp": {optional, true}, "text": {computed, true},
	}
	for _, a := range n.Data {
		if w, known := want[a.Name]; !known || a.Mode != w.mode || a.Sensitive != w.sensitive {
			t.Errorf("%s: mode %d, sensitive %v, want %+v", a.Name, a.Mode, a.Sensitive, w)
		}
		delete(want, a.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	for path, parts := range map[string][]string{
		"terraform/label.go":         {"Render: func(", "c.RenderLabel(ctx, body", "Kind:        Rendered"},
		"docs/data-sources/label.md": {"data \"library_label\" \"example\"", "title = \"The Trial\"", "Default: `\"small\"`", "`stamp` (String, Sensitive)"},
	} {
		for _, part := range parts {
			if !strings.Contains(string(files[path]), part) {
				t.Errorf("%s lacks %q:\n%s", path, part, files[path])
			}
		}
	}
	for _, path := range []string{"docs/resources/label.md", "docs/data-sources/labels.md"} {
		if files[path] != nil {
			t.Errorf("%s is written", path)
		}
	}
}

// TestLastingSecret: what must outlive a run has no form that ends with it.
func TestLastingSecret(t *testing.T) {
	for kind, ephemeral := range map[string]bool{"create": true, "lasting": false} {
		text := strings.Replace(library(t), "secret: create}}\n        used_times", "secret: "+kind+"}}\n        used_times", 1)
		path := filepath.Join(t.TempDir(), "library.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, files := load(t, path, "library")
		i := slices.IndexFunc(m.Nouns, func(n *noun) bool { return n.Name == "library_card" })
		if n := m.Nouns[i]; len(n.Secrets) != 1 || !has(n.Resource, "code_in_state") || n.Ephemeral() != ephemeral {
			t.Errorf("%s: %d secrets, ephemeral %v", kind, len(n.Secrets), n.Ephemeral())
		}
		if page := files["docs/ephemeral-resources/library_card.md"] != nil; page != ephemeral {
			t.Errorf("%s: a page of the ephemeral form: %v", kind, page)
		}
	}
}

// TestRenderedNounIsNotKept: what can be read again is no rendered noun.
func TestRenderedNounIsNotKept(t *testing.T) {
	text := strings.Replace(library(t), "  /api/labels:\n", "  /api/labels:\n    get:\n      operationId: listLabels\n      description: Lists labels.\n      x-permission: book:read\n      responses:\n        \"200\": {description: The labels., content: {application/json: {schema: {type: array, items: {$ref: \"#/components/schemas/Label\"}}}}}\n        default: {$ref: \"#/components/responses/Problem\"}\n", 1)
	got := refuse(t, text)
	if len(got) == 0 || !strings.Contains(got[0].text, "GET /api/labels has no place") {
		t.Errorf("findings %v", got)
	}
}
