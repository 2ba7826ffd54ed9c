package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/relay/server"
)

func TestCommandLineIsChecked(t *testing.T) {
	good := "0123456789abcdef"
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no secret":          {nil, program.ExitUsage, "secret is missing"},
		"short secret":       {[]string{"--secret", "short"}, program.ExitUsage, "needs 16 or more"},
		"two secrets":        {[]string{"--secret", good, "--secret-file", "f"}, program.ExitUsage, "keep one"},
		"no such file":       {[]string{"--secret-file", "/nonexistent/secret"}, program.ExitFailed, "/nonexistent/secret"},
		"bad address":        {[]string{"--secret", good, "--relay-address", "here"}, program.ExitUsage, "not an IP address"},
		"bad ports":          {[]string{"--secret", good, "--relay-ports", "5-4"}, program.ExitUsage, "ascending"},
		"bad network":        {[]string{"--secret", good, "--allow-peer-network", "10.0.0.0"}, program.ExitUsage, "not a network"},
		"an argument":        {[]string{"now"}, program.ExitUsage, "now"},
		"unknown flag":       {[]string{"--realm", "x"}, program.ExitUsage, "realm"},
		"no port":            {[]string{"--secret", good, "--listen", "127.0.0.1"}, program.ExitUsage, `--listen "127.0.0.1" is not an address such as :3478`},
		"a large port":       {[]string{"--secret", good, "--listen", ":99999"}, program.ExitUsage, `"99999" is not a port`},
		"no address":         {[]string{"--secret", good, "--listen="}, program.ExitUsage, "Listen is empty"},
		"ports that are not": {[]string{"--secret", good, "--relay-ports", "1-x"}, program.ExitUsage, `"x" is not a port`},
		"an IPv6 address":    {[]string{"--secret", good, "--relay-address", "::1"}, program.ExitUsage, "not a single IPv4 address"},
		"a negative quota":   {[]string{"--secret", good, "--bandwidth-per-peer", "-1"}, program.ExitUsage, "cannot be negative"},
		"a negative time":    {[]string{"--secret", good, "--drain", "-1s"}, program.ExitUsage, "cannot be negative"},
		"no certificate":     {[]string{"--secret", good, "--listen-tls", ":0", "--tls-cert", "/nonexistent/cert", "--tls-key", "k"}, program.ExitFailed, "/nonexistent/cert"},
		"no proxy":           {[]string{"--secret", good, "--trusted-proxies", "proxy"}, program.ExitUsage, "neither a network"},
		"foreign address":    {[]string{"--secret", good, "--listen", "192.0.2.250:0"}, program.ExitFailed, "192.0.2.250"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := program.Run(t.Context(), newCommand(), test.args, &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("exit code %d, want %d; says %q, want %q", code, test.code, stderr.String(), test.says)
			}
		})
	}
}

func TestConfigFromFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options{listen: []string{":3478"}, secretFile: file, relayPorts: "49152-65535", relayAddress: "203.0.113.1", peerNetworks: []string{"10.20.3.0/16"}}
	config, _, err := o.config(program.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	if string(config.Secret) != "0123456789abcdef" {
		t.Error("the secret kept its line end")
	}
	if want := (server.PortRange{Min: 49152, Max: 65535}); config.RelayPorts != want {
		t.Errorf("ports %v", config.RelayPorts)
	}
	if got := config.AllowedPeerNetworks[0].String(); got != "10.20.0.0/16" {
		t.Errorf("network %s", got)
	}
}
