package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCommittedOutputIsFresh generates the real contract twice: both runs and
// the committed files must be the same.
func TestCommittedOutputIsFresh(t *testing.T) {
	m, files := load(t, "../../openapi.yaml", "wattle")
	_, again := load(t, "../../openapi.yaml", "wattle")
	for path, want := range files {
		if !bytes.Equal(want, again[path]) {
			t.Errorf("%s differs between two runs", path)
		}
	}
	compare(t, "../../generated", files)
	examples := tree{}
	emitExamples(examples, m)
	compare(t, "../../examples/resources", examples)
}

func compare(t *testing.T, folder string, files tree) {
	t.Helper()
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(folder, path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s/%s is not what the contract gives: run make generate", folder, path)
		}
	}
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		if _, known := files[filepath.ToSlash(rel)]; !known {
			t.Errorf("%s does not come from the contract: run make generate, or move it elsewhere", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestGeneratedCodeImportsNothingHandWritten: generated code is left out of
// lint, so its one rule stands here. What it imported of ours would tie the
// contract to an implementation, and a change there could break every program.
func TestGeneratedCodeImportsNothingHandWritten(t *testing.T) {
	const module, own = "github.com/wattlenet/wattle", "github.com/wattlenet/wattle/generated/"
	err := filepath.WalkDir("../../generated", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(file) {
			t.Errorf("%s does not say that it is generated", path)
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if strings.HasPrefix(name, module) && !strings.HasPrefix(name, own) {
				t.Errorf("%s imports %s, which is hand-written", path, name)
			}
			if strings.HasSuffix(name, "kin-openapi/openapi3") {
				t.Errorf("%s imports %s, which every binary would then carry", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWrite: only what changed is written, what no longer belongs is removed.
func TestWrite(t *testing.T) {
	folder := t.TempDir()
	first := tree{"a.txt": []byte("a"), "sub/b.txt": []byte("b")}
	if n, err := first.write(folder); n != 2 || err != nil {
		t.Fatalf("write: %d, %v; want 2 files", n, err)
	}
	if n, err := first.write(folder); n != 0 || err != nil {
		t.Fatalf("write again: %d, %v; want nothing", n, err)
	}
	second := tree{"a.txt": []byte("A")}
	if n, err := second.write(folder); n != 2 || err != nil {
		t.Fatalf("write less: %d, %v; want one written and one removed", n, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "sub")); !os.IsNotExist(err) {
		t.Errorf("the empty folder is still there: %v", err)
	}
}

// TestNothingIsWrittenWhenRefused: a refused contract leaves the folder alone.
func TestNothingIsWrittenWhenRefused(t *testing.T) {
	text := strings.Replace(library(t), "      x-permission: book:create\n", "", 1)
	input := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(input, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if _, err := run(config{Input: input, Output: out, Import: "example.org/x", Provider: "library"}); err == nil {
		t.Fatal("no error")
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 0 {
		t.Errorf("%d files, %v; want none", len(entries), err)
	}
}
