package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// load builds everything of a contract.
func load(t *testing.T, path, provider string) (*model, tree) {
	t.Helper()
	m, files, err := build(config{Input: path, Import: "github.com/wattlenet/wattle/generated", Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	return m, files
}

// TestNewNounTouchesOnlyTheContract puts the generated code of a made-up
// contract in the place of the real one, under the same hand-written runtime,
// and runs its conformance cases against a server made from the contract.
func TestNewNounTouchesOnlyTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: compiles a provider and runs Terraform")
	}
	m, files := load(t, "testdata/library.yaml", "library")
	conform(t, m, "-overlay="+overlay(t, files))
}

// conform runs the conformance cases against a server made from the contract.
func conform(t *testing.T, m *model, flags ...string) {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil && os.Getenv("TF_ACC_TERRAFORM_PATH") == "" {
		t.Skip("SKIPPED: no terraform on the path")
	}
	// Each noun is tried on a server of its own, in which the ids are the same.
	mux := http.NewServeMux()
	existing := map[string][]string{}
	for _, tried := range m.Nouns {
		server := &fixture{model: m, keys: map[string]*record{}}
		clear(existing)
		for _, n := range m.Nouns {
			if n.Kind != kindAdopted && n.Kind != kindData {
				continue
			}
			for _, name := range []string{"adam", "beth", "carl"} {
				fields := map[string]any{}
				if n.schema.Properties["name"] != nil {
					fields["name"] = name
				}
				existing[n.Name] = append(existing[n.Name], server.add(n.Name, fields))
			}
		}
		mux.Handle("/"+tried.Name+"/", http.StripPrefix("/"+tried.Name, server))
	}
	listener := httptest.NewServer(mux)
	t.Cleanup(listener.Close)
	description, err := json.Marshal(map[string]any{"URL": listener.URL, "Token": "secret", "Existing": existing, "Separate": true})
	if err != nil {
		t.Fatal(err)
	}
	// What each single attribute does is tried with the real contract.
	run := ".*/(life|invalid|secrets|many)"
	if asked := os.Getenv("CONFORMANCE_RUN"); asked != "" {
		run = asked
	}
	args := append([]string{"test", "-count=1", "-run=TestUpgrade|TestServer/" + run}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./provider/internal/conformance")...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "WATTLE_CONFORMANCE="+string(description), "WATTLE_CONFORMANCE_UPGRADE="+oldBook)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// oldBook is a state of the library's first release, and what becomes of it:
// the charts of its chapters are called tables, and its subtitle is gone.
const oldBook = `{
	"Type": "library_book", "Version": 0,
	"State": {"id": "b1", "shelf_id": "s1", "name": "Go", "subtitle": "A tour", "isbn": "1234",
		"chapters": {"one": {"pages": 3, "charts": ["a"]}}},
	"Want": {
		"AttributeName(\"id\")": "tftypes.String<\"b1\">", "AttributeName(\"shelf_id\")": "tftypes.String<\"s1\">",
		"AttributeName(\"name\")": "tftypes.String<\"Go\">", "AttributeName(\"isbn\")": "tftypes.String<\"1234\">",
		"AttributeName(\"chapters\").ElementKeyString(\"one\").AttributeName(\"pages\")": "tftypes.Number<\"3\">",
		"AttributeName(\"chapters\").ElementKeyString(\"one\").AttributeName(\"tables\").ElementKeyValue(tftypes.String<\"a\">)": "tftypes.String<\"a\">"
	}
}`

// overlay is a file that tells the Go command to see files in the place of
// everything below generated.
func overlay(t *testing.T, files tree) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	replace := map[string]string{}
	err = filepath.WalkDir(filepath.Join(root, "generated"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			replace[path] = ""
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.write(folder); err != nil {
		t.Fatal(err)
	}
	for path := range files {
		if strings.HasSuffix(path, ".go") {
			replace[filepath.Join(root, "generated", path)] = filepath.Join(folder, path)
		}
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
