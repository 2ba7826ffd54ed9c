//go:build linux

package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// What --help promises has been seen to work as well: each flag is given in a
// story. One that several commands of a program explain in the same words is
// one flag.
func TestEveryFlagIsInAStory(t *testing.T) {
	told := expand(stories(t))
	for _, program := range []string{"wattle", "wattle-server", "wattle-relay"} {
		commands := map[option][]string{}
		collectFlags(t, []string{program}, commands)
		if len(commands) < 10 {
			t.Errorf("%s has only %d flags", program, len(commands))
		}
		for flag, by := range commands {
			if !slices.ContainsFunc(by, func(command string) bool { return flag.given(command, told) }) {
				t.Errorf("no story runs %s with %s", strings.Join(by, " or "), flag.long)
			}
		}
	}
}

// An option is a flag as --help shows it.
type option struct{ short, long, help string } // short: "" for none

// given reports whether a command is told to be run with the flag.
func (o option) given(command, told string) bool {
	names := regexp.QuoteMeta(o.long)
	if o.short != "" {
		names += "|" + regexp.QuoteMeta(o.short)
	}
	return regexp.MustCompile(`(?m)(^|[\s'"(/])` + command + ` ([^;|&\n]* )?(` + names + `)([\s='"]|$)`).MatchString(told)
}

// collectFlags asks a command and those below it for their flags, and adds to
// each the commands that have it. What comes from the library is left out.
func collectFlags(t *testing.T, command []string, into map[option][]string) {
	t.Helper()
	program := filepath.Join(os.Getenv(binVariable), command[0])
	help, err := exec.CommandContext(t.Context(), program, append(command[1:], "--help")...).Output()
	if err != nil {
		t.Fatalf("%s --help: %v", strings.Join(command, " "), err)
	}
	own, _, _ := strings.Cut(string(help), "\nGlobal Flags:")
	for _, match := range regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[a-z0-9-]+)(.*)$`).FindAllStringSubmatch(own, -1) {
		if flag := (option{match[1], match[2], match[3]}); flag.long != "--help" && flag.long != "--version" {
			flag.help = strings.Join(strings.Fields(flag.help), " ")
			into[flag] = append(into[flag], strings.Join(command, " "))
		}
	}
	_, list, _ := strings.Cut(own, "\nAvailable Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, match := range regexp.MustCompile(`(?m)^  ([a-z-]+) `).FindAllStringSubmatch(list, -1) {
		if match[1] != "help" && match[1] != "completion" {
			collectFlags(t, append(slices.Clone(command), match[1]), into)
		}
	}
}

// expand puts in place of our own words what they run; see package acceptance.
func expand(told string) string {
	for word, runs := range map[string]string{
		`(?m)^serve \S+`: "wattle-server up --data-dir D --listen A --public-url U --credentials C --relay-listen A --relay-address A",
		`(?m)^daemon `:   "wattle daemon ",
		`(?m)^join .*`:   "wattle up --management-url U --ca-pin P --setup-key-file F",
	} {
		told = regexp.MustCompile(word).ReplaceAllString(told, runs)
	}
	return told
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
