package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// TestFunctions applies the example; no control plane is asked.
func TestFunctions(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	c := newCommand(t, plane, gate.URL)
	source, err := os.ReadFile("../examples/functions/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, 0, "apply", "-auto-approve", "-input=false")
	var told map[string]struct{ Value any }
	if err := json.Unmarshal([]byte(c.run(t, 0, "output", "-json")), &told); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for name, output := range told {
		got[name] = output.Value
	}
	want := map[string]any{
		"sites":              map[string]any{"berlin": "10.20.0.0/16", "paris": "10.21.0.0/16", "lab": "10.20.64.0/20"},
		"clashes":            []any{"berlin and lab"},
		"berlin_without_lab": []any{"10.20.0.0/18", "10.20.80.0/20", "10.20.96.0/19", "10.20.128.0/17"},
		"lab_is_in_berlin":   true,
		"label":              "web-1",
		"join":               "wattle up --management-url https://mesh.example:8443 --setup-key-file '/run/setup key'",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if n := gate.count(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestFunctionRefusals: a wrong argument is named, with what would be right.
func TestFunctionRefusals(t *testing.T) {
	c := newCommand(t, controlplanetest.New(t), "https://127.0.0.1:1")
	refusals := map[string][2]string{
		`canonical_cidr("10.0.0")`:                                  {"cidr", "neither a network such as 10.0.0.0/8 nor an address"},
		`cidr_contains("10.0.0.0/8", "x")`:                          {"inner", "neither a network"},
		`cidr_exclude("10.0.0.0/8", ["10.0.0.0/8", "y"])`:           {"excluded", "neither a network"},
		`up_command("mesh.example", "", "/run/key")`:                {"management_url", "https://host:port"},
		`up_command("https://mesh.example", "sha1:00", "/run/key")`: {"ca_pin", "64 hexadecimal digits"},
		`up_command("https://mesh.example", "", "key")`:             {"setup_key_file", "full path"},
	}
	config := "terraform {\n  required_providers {\n    wattle = {\n      source = \"wattlenet/wattle\"\n    }\n  }\n}\n"
	for call := range refusals {
		config += fmt.Sprintf("output \"o%d\" {\n  value = provider::wattle::%s\n}\n", len(config), call)
	}
	if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	faults := strings.Split(c.run(t, 1, "plan", "-input=false", "-no-color"), "Error: ")
	for call, says := range refusals {
		if !slices.ContainsFunc(faults, func(fault string) bool {
			fault = strings.Join(strings.FieldsFunc(fault, func(r rune) bool { return unicode.IsSpace(r) || r == '│' }), " ")
			return strings.Contains(fault, call) && strings.Contains(fault, strconv.Quote(says[0])) && strings.Contains(fault, says[1])
		}) {
			t.Errorf("%s: no fault says %q\n%s", call, says, faults)
		}
	}
}
