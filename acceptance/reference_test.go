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
	told := stories(t)
	for _, name := range commands(t) {
		if !regexp.MustCompile(`\bwattle ` + name + `\b`).MatchString(told) {
			t.Errorf("no story runs `wattle %s`", name)
		}
	}
}

// commands are those of docs/cli.md, without the program.
func commands(t *testing.T) (names []string) {
	reference, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile("(?m)^### `wattle ([a-z]+(?: [a-z]+)*)(?: [^`]*)?`$").FindAllSubmatch(reference, -1) {
		names = append(names, string(match[1]))
	}
	if len(names) < 20 {
		t.Fatalf("found only %d commands in the reference", len(names))
	}
	return names
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

// What README, docs and guides show can be typed: its commands and flags exist.
func TestPagesShowCommandsThatExist(t *testing.T) {
	flags := map[string][]string{} // of each command
	for _, name := range commands(t) {
		flags["wattle "+name] = nil
	}
	for _, program := range []string{"wattle", "wattle-server", "wattle-relay"} {
		found := map[option][]string{}
		collectFlags(t, []string{program}, found)
		for flag, commands := range found {
			for _, command := range commands {
				flags[command] = append(flags[command], flag.long, flag.short)
			}
		}
		flags[program] = append(flags[program], "--socket", "--help", "--version")
	}
	shown := 0
	for _, pattern := range []string{"../README.md", "../CONTRIBUTING.md", "../docs/*.md", "../docs/benchmarks/*.md", "../generated/docs/guides/*.md", "../examples/*/README.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(pages), err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range commandLines(string(text)) {
				shown++
				if wrong := unknownWord(strings.Fields(line), flags); wrong != "" {
					t.Errorf("%s shows %q, but there is no %s", page, line, wrong)
				}
			}
		}
	}
	if shown < 100 {
		t.Errorf("only %d command lines were found", shown)
	}
}

// commandLines are those of our programs in a page: in code between backquotes, and in blocks.
func commandLines(page string) (lines []string) {
	page = strings.ReplaceAll(page, "\\\n", " ")
	shown := regexp.MustCompile("(?m)(?:^\\s*(?:\\$ )?|`)(wattle(?:-server|-relay)?(?: [^=`\n][^`\n]*)?)")
	for _, match := range shown.FindAllStringSubmatch(page, -1) {
		line, _, _ := strings.Cut(match[1], " #")
		line = regexp.MustCompile("[|&;<>].*").ReplaceAllString(line, "")
		if !strings.HasPrefix(line, "wattle lets") { // the comment of a rule
			lines = append(lines, line)
		}
	}
	return lines
}

// unknownWord is the first command or flag of a command line that does not exist, empty for none.
func unknownWord(words []string, flags map[string][]string) string {
	command := words[0]
	for i := 1; i < len(words); i++ {
		word, _, _ := strings.Cut(strings.TrimRight(words[i], ".,:)"), "=")
		_, deeper := flags[command+" "+word]
		switch {
		case deeper:
			command += " " + word
		case word == "--socket" && command == words[0]:
			i++ // its value
		case strings.HasPrefix(word, "--") && strings.Trim(word, "-.") != "" && !slices.Contains(flags[command], word) && !slices.Contains(flags[words[0]], word):
			return word + " of " + command
		case command == "wattle" && regexp.MustCompile("^[a-z]+$").MatchString(word):
			return "command " + word
		}
	}
	return ""
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
