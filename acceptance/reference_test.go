//go:build linux

package acceptance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/cli.md promises has been seen to work: each command of it stands in a story.
func TestEveryCommandIsInAStory(t *testing.T) {
	reference, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	told := stories(t)
	commands := regexp.MustCompile("(?m)^### `wattle ([a-z]+(?: [a-z]+)*)(?: [^`]*)?`$").FindAllSubmatch(reference, -1)
	if len(commands) < 20 {
		t.Fatalf("found only %d commands in the reference", len(commands))
	}
	for _, match := range commands {
		name := string(match[1])
		if !regexp.MustCompile(`\bwattle ` + name + `\b`).MatchString(told) {
			t.Errorf("no story runs `wattle %s`", name)
		}
	}
}

// stories is the text of all of them.
func stories(t *testing.T) string {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
