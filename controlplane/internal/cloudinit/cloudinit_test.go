package cloudinit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A document is what cloud-init reads of the user data.
type document struct {
	Hostname   string `yaml:"hostname"`
	WriteFiles []struct {
		Path, Owner, Permissions, Content string
	} `yaml:"write_files"`
	Runcmd [][]string `yaml:"runcmd"`
}

func (d document) file(t *testing.T, path string) (content, permissions string) {
	t.Helper()
	for _, f := range d.WriteFiles {
		if f.Path == path {
			return f.Content, f.Permissions
		}
	}
	t.Fatalf("no file %s in %+v", path, d)
	return "", ""
}

func render(t *testing.T, c Config) document {
	t.Helper()
	text, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "#cloud-config\n") {
		t.Fatalf("cloud-init would not know it: %s", text)
	}
	var d document
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

const hash = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9" // of "hello world"

func TestKeyIsForRootOnly(t *testing.T) {
	hostile := `wtk_'"$(reboot)` + "`\\<>&%#: -"
	d := render(t, Config{ManagementURL: "https://a.example:8443", CAPin: "sha256:aa", Install: None, SetupKey: hostile, Hostname: "web-1"})
	content, permissions := d.file(t, keyFile)
	if content != hostile || permissions != "0600" {
		t.Errorf("key file holds %q with %s", content, permissions)
	}
	if script, _ := d.file(t, d.Runcmd[0][0]); strings.Contains(script, hostile) {
		t.Error("the key stands in the script, whose words show in the process list")
	}
	if d.Hostname != "web-1" {
		t.Errorf("hostname %q", d.Hostname)
	}
}

func TestKeyElsewhereMakesNoSecret(t *testing.T) {
	d := render(t, Config{ManagementURL: "https://a.example", Install: None, SetupKeyFile: "/run/cred's/key"})
	for _, f := range d.WriteFiles {
		if f.Path == keyFile {
			t.Error("a key file is written though none was given")
		}
	}
	script, _ := d.file(t, d.Runcmd[0][0])
	if !strings.Contains(script, `'/run/cred'\''s/key'`) || strings.Contains(script, "rm -f") || strings.Contains(script, "--ca-pin") {
		t.Error(script)
	}
}

// The script runs with programs that note what they are asked to do.
func TestScript(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		wants  []string
		fails  bool
	}{
		"binary": {
			Config{Install: Binary, AgentURL: "https://downloads.example/wattle?a=1&b='", AgentSHA256: hash, SetupKey: "wtk_x", CAPin: "sha256:aa"},
			[]string{"curl https://downloads.example/wattle?a=1&b='", "systemd-sysusers wattle.conf", "systemctl enable --now wattle.service", "wattle up --management-url https://a.example --ca-pin sha256:aa --setup-key-file KEY --timeout 120s"},
			false,
		},
		"deb":            {Config{Install: Package, AgentURL: "https://downloads.example/wattle.deb", AgentSHA256: hash, SetupKey: "wtk_x"}, []string{"dpkg -i", ".deb", "wattle up"}, false},
		"rpm":            {Config{Install: Package, AgentURL: "https://downloads.example/wattle.rpm", AgentSHA256: hash, SetupKey: "wtk_x"}, []string{"rpm -U --replacepkgs", "wattle up"}, false},
		"apk":            {Config{Install: Package, AgentURL: "https://downloads.example/wattle.apk", AgentSHA256: hash, SetupKey: "wtk_x"}, []string{"apk add --allow-untrusted", "wattle up"}, false},
		"none":           {Config{Install: None, SetupKey: "wtk_x"}, []string{"wattle up"}, false},
		"other download": {Config{Install: Binary, AgentURL: "https://downloads.example/wattle", AgentSHA256: strings.Repeat("0", 64), SetupKey: "wtk_x"}, []string{"another SHA-256"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.ManagementURL = "https://a.example"
			d := render(t, test.config)
			script, _ := d.file(t, d.Runcmd[0][0])
			out, key, err := runScript(t, script)
			if (err != nil) != test.fails {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range test.wants {
				if !strings.Contains(out, strings.ReplaceAll(want, "KEY", key)) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			if _, left := os.Stat(key); (left == nil) != test.fails {
				t.Errorf("the key file: %v", left)
			}
			if strings.Contains(out, "systemctl") == test.fails {
				t.Errorf("what has another hash must not be started:\n%s", out)
			}
		})
	}
}

// runScript runs a script with stand-ins for what changes a machine.
func runScript(t *testing.T, script string) (out, key string, err error) {
	t.Helper()
	folder := t.TempDir()
	key = filepath.Join(folder, "setup-key")
	note := "#!/bin/sh\necho \"${0##*/} $*\"\n"
	for name, text := range map[string]string{
		"systemctl": note, "systemd-sysusers": note, "dpkg": note, "rpm": note, "apk": note, "install": note, "sleep": "#!/bin/sh\n",
		"curl": "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = -o ] && file=$2; shift; done\nprintf 'hello world' >\"$file\"\necho \"curl $1\"\n",
		// The daemon does not answer at the first attempt.
		"wattle": "#!/bin/sh\necho \"wattle $*\"\n[ -e " + folder + "/tried ] && exit 0\ntouch " + folder + "/tried\nexit 3\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(key, []byte("wtk_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(script, keyFile, key))
	command.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH")}
	text, err := command.CombinedOutput()
	return string(text), key, err
}
