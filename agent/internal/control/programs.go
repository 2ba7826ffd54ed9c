package control

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of the contract (MachineFacts).
const (
	maxPrograms = 1024
	maxPath     = 1024 // characters of a path
)

// An executable is the file of a program that runs.
type executable struct {
	// path is what the operating system calls it.
	path string

	// link leads to the file itself, whatever stands at path; empty where
	// nothing does, or when the file was deleted.
	link string
}

// running returns those of the programs that run, in their order. A program is
// the path of a file, or of a symbolic link to it.
func running(programs []string, list []executable) []string {
	byPath := make(map[string][]executable, len(list))
	for _, each := range list {
		byPath[folded(each.path)] = append(byPath[folded(each.path)], each)
	}
	found := []string{}
	for _, program := range programs {
		if len(found) == maxPrograms || utf8.RuneCountInString(program) > maxPath || slices.Contains(found, program) {
			continue
		}
		names := []string{folded(filepath.Clean(program))}
		if file, err := filepath.EvalSymlinks(program); err == nil {
			names = append(names, folded(file))
		}
		for _, name := range names {
			if slices.ContainsFunc(byPath[name], func(e executable) bool { return e.link == "" || sameFile(program, e.link) }) {
				found = append(found, program)
				break
			}
		}
	}
	return found
}

// sameFile keeps apart two files of one name: a program in a container has its
// path from another root. Where the agent sees no file the name decides, as it
// does for a program that was replaced while it runs.
func sameFile(program, link string) bool {
	wanted, err := os.Stat(program)
	if err != nil {
		return true
	}
	has, err := os.Stat(link)
	return err == nil && os.SameFile(wanted, has)
}

// folded makes two spellings of one path equal where the system holds them so.
func folded(path string) string {
	if runtime.GOOS == "windows" {
		return strings.ToLower(path)
	}
	return path
}
