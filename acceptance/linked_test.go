//go:build linux

package acceptance

import (
	"debug/elf"
	"debug/gosym"
	"os"
	"path/filepath"
	"testing"
)

// unused is an exported method that nothing of ours calls, and every program has its type. It is in a program in which the
// linker kept every exported method of every type, because something reachable calls methods by names, or numbers, that
// are found out at run time: text/template and net/rpc do.
const unused = "reflect.(*rtype).Methods"

// A third of the agent was code that nothing could reach, and was in memory all the same. The provider is left out: the
// plugin protocol of Terraform brings both of the reasons.
func TestLinkerDropsWhatNobodyCalls(t *testing.T) {
	for _, program := range []string{"wattle", "wattle-server", "wattle-relay"} {
		functions := linked(t, filepath.Join(os.Getenv(binVariable), program))
		if !functions["main.main"] || len(functions) < 1000 {
			t.Fatalf("%s: found only %d functions", program, len(functions))
		}
		if functions[unused] {
			t.Errorf("%s has %s, and so every other method (text/template: %t). To see who calls methods by name: go build -o %s -ldflags=-dumpdep ./%s 2>&1 | grep ReflectMethod",
				program, unused, functions["text/template.(*state).evalField"], os.DevNull, programs[program])
		}
	}
}

// linked is the set of the functions of a program, which are there also when it is stripped.
func linked(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // it was read only
	section := file.Section(".gopclntab")
	if section == nil {
		t.Fatalf("%s has no table of functions", path)
	}
	lines, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, file.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	functions := make(map[string]bool, len(table.Funcs))
	for _, function := range table.Funcs {
		functions[function.Name] = true
	}
	return functions
}
