package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// beforeRenames is the library as it was released: without the renames that it
// records now.
func beforeRenames(t *testing.T) string {
	t.Helper()
	text := library(t)
	for old, fresh := range map[string]string{
		", version: 1}":                          "}",
		", version: 2, was: [subtitle]}":         ", version: 1}",
		"x-terraform: {optIn: true, was: noisy}": "x-terraform: {optIn: true}",
		"        loud:":                          "        noisy:",
		"required: [id, name, loud,":             "required: [id, name, noisy,",
		", x-terraform: {was: charts}":           "",
		"        tables:":                        "        charts:",
		"atMostOneOf: [[figure, tables]]":        "atMostOneOf: [[figure, charts]]",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the contract does not contain %q", old)
		}
		text = strings.ReplaceAll(text, old, fresh)
	}
	subtitle := `        subtitle: {type: string, maxLength: 80, default: "", description: The second title.}` + "\n"
	return strings.ReplaceAll(text, "        name: {type: string, minLength: 1, maxLength: 80, description: Title of the book.}\n",
		"        name: {type: string, minLength: 1, maxLength: 80, description: Title of the book.}\n"+subtitle)
}

// since compares a contract with the one that was released.
func since(t *testing.T, released, now string) []finding {
	t.Helper()
	folder := t.TempDir()
	c := config{Input: filepath.Join(folder, "library.yaml"), Released: filepath.Join(folder, "released.yaml"), Import: "example.org/x", Provider: "library"}
	for path, text := range map[string]string{c.Input: now, c.Released: released} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := build(c)
	var f *findings
	if err != nil && !errors.As(err, &f) {
		t.Fatal(err)
	}
	if f == nil {
		return nil
	}
	return f.list
}

// TestReleasedContractIsKept changes the contract in one place each after it
// was released.
func TestReleasedContractIsKept(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string // old text and fresh text, each everywhere
		says    []string // a part of each finding; none when the change is allowed
	}{
		{"nothing", nil, nil},
		{"a new attribute", []string{"        prices: {", "        pages: {type: integer, minimum: 0, default: 0, description: How long it is.}\n        prices: {"}, nil},
		{"a new description", []string{"Whether he talks.", "Whether he talks in the hall."}, nil},
		{
			"renamed",
			[]string{"        isbn:", "        number:", "required: [name, isbn]", "required: [name, number]", "required: [id, name, isbn, prices]", "required: [id, name, number, prices]"},
			[]string{"book differs from the last release so that states must be upgraded: raise its version to 3", "book.isbn of the last release is gone: write x-terraform: {was: isbn}"},
		},
		{
			"renamed with was",
			[]string{
				"        isbn:", "        number:", "required: [name, isbn]", "required: [name, number]", "required: [id, name, isbn, prices]", "required: [id, name, number, prices]",
				"description: Number of the book., x-terraform: {immutable: true}", "description: Number of the book., x-terraform: {immutable: true, was: isbn}",
			},
			[]string{"raise its version to 3"},
		},
		{"renamed with was and version", []string{
			"        isbn:", "        number:", "required: [name, isbn]", "required: [name, number]", "required: [id, name, isbn, prices]", "required: [id, name, number, prices]",
			"description: Number of the book., x-terraform: {immutable: true}", "description: Number of the book., x-terraform: {immutable: true, was: isbn}", "version: 2,", "version: 3,",
		}, nil},
		{
			"renamed for Terraform alone",
			[]string{"description: Whether it is void.}", "description: Whether it is void., x-terraform: {name: void}}"},
			[]string{"raise its version to 1", "library_card.revoked of the last release is gone"},
		},
		{
			"renamed inside a collection",
			[]string{"        pages: {type: integer, minimum: 1, maximum: 500", "        length: {type: integer, minimum: 1, maximum: 500", "required: [id, title, pages]", "required: [id, title, length]"},
			[]string{"raise its version to 3", "book.chapters.pages of the last release is gone"},
		},
		{
			"retyped",
			[]string{"isbn: {type: string, pattern: \"^[0-9]{4}$\", x-form: four digits,", "isbn: {type: integer,"},
			[]string{"raise its version to 3", "book.isbn is a int64 and was a string in the last release: write x-terraform: {was: isbn}"},
		},
		{"retyped with was and version", []string{
			"isbn: {type: string, pattern: \"^[0-9]{4}$\", x-form: four digits,", "isbn: {type: integer,",
			"description: Number of the book., x-terraform: {immutable: true}", "description: Number of the book., x-terraform: {immutable: true, was: isbn}", "version: 2,", "version: 3,",
		}, nil},
		{
			"a set that became a list",
			[]string{"labels: {type: array, uniqueItems: true", "labels: {type: array, uniqueItems: false"},
			[]string{"raise its version to 1", "shelf.labels is a list of string and was a set of string"},
		},
		{
			"removed",
			[]string{"        room: {type: string, enum: [hall, cellar], default: hall, description: Where it stands.}\n", "", "description, room, labels", "description, labels"},
			[]string{"raise its version to 1", "shelf.room of the last release is gone"},
		},
		{"removed on purpose", []string{
			"        room: {type: string, enum: [hall, cellar], default: hall, description: Where it stands.}\n", "", "description, room, labels", "description, labels",
			"{name: shelf, path: /api/shelves, lookup: [name]}", "{name: shelf, path: /api/shelves, lookup: [name], version: 1, was: [room]}",
		}, nil},
		{
			"resource removed",
			[]string{"{name: house_rules, path: /api/settings, kind: singleton}", "{name: rules_of_house, path: /api/settings, kind: singleton}"},
			[]string{"resource library_house_rules of the last release is gone"},
		},
		{"version went back", []string{"version: 2,", "version: 1,"}, []string{"version 1 of book is lower than 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			released, now := library(t), library(t)
			for i := 0; i < len(c.changes); i += 2 {
				if !strings.Contains(now, c.changes[i]) {
					t.Fatalf("the contract does not contain %q", c.changes[i])
				}
				now = strings.ReplaceAll(now, c.changes[i], c.changes[i+1])
			}
			got := since(t, released, now)
			if len(got) != len(c.says) {
				t.Fatalf("findings %v, want %d", got, len(c.says))
			}
			for i, says := range c.says {
				if got[i].rule != "R10" || !strings.Contains(got[i].text, says) || got[i].line < 2 {
					t.Errorf("finding %d is %v, want R10: ... %s ...", i, got[i], says)
				}
			}
		})
	}
}

// TestRenamesOfTheLibraryAreAllowed: what it records about its past is enough.
func TestRenamesOfTheLibraryAreAllowed(t *testing.T) {
	if got := since(t, beforeRenames(t), library(t)); got != nil {
		t.Errorf("findings %v, want none", got)
	}
}

// TestRenames: the steps to what was renamed.
func TestRenames(t *testing.T) {
	m, _ := load(t, "testdata/library.yaml", "library")
	got := map[string][]rename{}
	for _, n := range m.Nouns {
		if list := n.renames(); len(list) > 0 {
			got[n.Name] = list
		}
	}
	want := map[string][]rename{
		"reader": {{Steps: []string{}, From: "noisy", Now: "loud"}},
		"book":   {{Steps: []string{"chapters", "*"}, From: "charts", Now: "tables"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
