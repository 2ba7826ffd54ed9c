// Package cloudinit renders the user data with which a new machine installs the
// agent and enrols.
//
//	write_files: setup key (0600), unit, script ─> runcmd: script
//	script: download ─> SHA-256 ─> install ─> start the daemon ─> wattle up ─> remove the key
package cloudinit

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/wattlenet/wattle/internal/template"
	"github.com/wattlenet/wattle/internal/unit"
)

// The ways by which the agent comes onto the machine.
const (
	Binary  = "binary"  // a download of the program
	Package = "package" // a download of a .deb, .rpm or .apk
	None    = "none"    // the image has it
)

// keyFile is where the setup key lies until the machine is enrolled.
const keyFile = "/etc/wattle/setup-key"

// Config says what the machine is told.
type Config struct {
	// ManagementURL is the address of the control plane; required.
	ManagementURL string

	// CAPin is the pin of its authority; empty when the machine needs none.
	CAPin string

	// Install is Binary, Package or None.
	Install string

	// AgentURL and AgentSHA256 are what to download and its hash in
	// hexadecimal digits; empty with None.
	AgentURL, AgentSHA256 string

	// SetupKey is the secret. Either it or SetupKeyFile.
	SetupKey string

	// SetupKeyFile is a file on the machine that holds the secret.
	SetupKeyFile string

	// Hostname is the name of the machine; empty leaves it alone.
	Hostname string
}

//go:embed user_data.tmpl
var userData string

// functions are what the template calls besides those of the language; json writes a scalar: YAML 1.2 takes every JSON text.
var functions = map[string]template.Function{"shell": of(inShell), "indent": of(indent)}

// Render returns the user data. Equal configurations render equal bytes.
func Render(c Config) (string, error) {
	values := struct {
		Config
		KeyFile string
		Kind    string // of the package: deb, rpm or apk

		Unit, UnitUser, UnitRights, UnitOnline, UnitWait string
	}{Config: c, KeyFile: c.SetupKeyFile, Unit: unit.Agent, UnitUser: unit.AgentUser, UnitRights: unit.AgentRights, UnitOnline: unit.Online, UnitWait: unit.Wait}
	if values.KeyFile == "" {
		values.KeyFile = keyFile
	}
	if c.Install == Package {
		values.Kind, _ = PackageKind(c.AgentURL)
	}
	page, err := template.Parse(userData, functions)
	if err != nil {
		return "", fmt.Errorf("read the template of user data: %w", err)
	}
	document, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("encode what user data tells: %w", err)
	}
	var text strings.Builder
	if err := page.Print(&text, document); err != nil {
		return "", fmt.Errorf("render user data: %w", err)
	}
	return text.String(), nil
}

// PackageKind is the kind of a package by the end of its address: deb, rpm or
// apk.
func PackageKind(address string) (kind string, ok bool) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", false
	}
	kind = strings.TrimPrefix(path.Ext(parsed.Path), ".")
	return kind, kind == "deb" || kind == "rpm" || kind == "apk"
}

// of makes a function of templates out of one of a text.
func of(f func(string) string) template.Function {
	return func(args []any) (any, error) {
		if len(args) == 1 {
			if text, ok := args[0].(string); ok {
				return f(text), nil
			}
		}
		return nil, fmt.Errorf("it takes one text, not %v", args)
	}
}

// indent moves every line of a text to the right, for a block of YAML in the content of a file.
func indent(text string) string {
	const pad = "      "
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad)
}

// inShell writes a text as one word of a shell.
func inShell(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
