package service

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/internal/unit"
)

var systems = []string{"linux", "darwin", "freebsd"}

func planFor(t *testing.T, system, program string) Plan {
	t.Helper()
	p, err := PlanFor(system, program)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestInstallAndRemove: the files are whole, hold the program's path, come and go
// with the commands at the right moments, and twice is as good as once.
func TestInstallAndRemove(t *testing.T) {
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			root := t.TempDir()
			p := planFor(t, system, "/opt/bin/wattle")
			for i := range p.Files { // of this test's machine
				p.Files[i].Path = filepath.Join(root, p.Files[i].Path)
			}
			there := func() (count int) {
				for _, file := range p.Files {
					if _, err := os.Stat(file.Path); err == nil {
						count++
					}
				}
				return count
			}
			type step struct {
				Command Command
				Files   int
			}
			var steps []step
			run := func(_ context.Context, c Command) error {
				steps = append(steps, step{c, there()})
				return nil
			}
			var want []step
			expect := func(commands []Command, files int) {
				for _, c := range commands {
					want = append(want, step{c, files})
				}
			}
			for range 2 {
				expect(p.Start, len(p.Files))
				if err := p.Install(t.Context(), "", run); err != nil {
					t.Fatal(err)
				}
			}
			for _, file := range p.Files {
				raw, err := os.ReadFile(file.Path)
				info, statErr := os.Stat(file.Path)
				if err != nil || statErr != nil || info.Mode().Perm() != file.Mode || strings.Contains(string(raw), unit.Program) {
					t.Errorf("%s: mode %v, %v, %v\n%s", file.Path, info.Mode(), err, statErr, raw)
				}
			}
			expect(p.Stop, len(p.Files))
			expect(p.Gone, 0)
			for range 2 { // the second time there is nothing to stop
				if err := p.Remove(t.Context(), "", run); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, steps); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnImageIsNotStarted(t *testing.T) {
	root := t.TempDir()
	run := func(_ context.Context, c Command) error { return errors.New("was run: " + strings.Join(c, " ")) }
	p := planFor(t, "linux", unit.Program)
	if err := p.Install(t.Context(), root, run); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(root, "etc/systemd/system/wattle.service")); err != nil || string(raw) != unit.Agent {
		t.Errorf("%q, %v", raw, err)
	}
	if err := p.Remove(t.Context(), root, run); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/systemd/system/wattle.service")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the unit is left:", err)
	}
}

// TestAFailureEndsTheRemoval: files of a daemon that still runs stay.
func TestAFailureEndsTheRemoval(t *testing.T) {
	root := t.TempDir()
	p := planFor(t, "freebsd", unit.Program)
	p.Files[0].Path = filepath.Join(root, "wattle")
	fine := func(context.Context, Command) error { return nil }
	if err := p.Install(t.Context(), "", fine); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), "", func(context.Context, Command) error { return errors.New("it does not stop") }); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(p.Files[0].Path); err != nil {
		t.Error(err)
	}
}

func TestPathsThatServiceManagersMisread(t *testing.T) {
	for _, program := range []string{"wattle", "./wattle", "", "/opt/my programs/wattle", "/opt/100%/wattle", "/opt/$HOME/wattle", "/opt/a&b/wattle", "/opt/wattle\nExecStartPre=/bin/x", "/opt/\"x\"", "/opt/<x>"} {
		if _, err := PlanFor("linux", program); err == nil {
			t.Errorf("%q is taken", program)
		}
	}
	if _, err := PlanFor("plan9", unit.Program); err == nil || !strings.Contains(err.Error(), "plan9") {
		t.Errorf("an unknown system: %v", err)
	}
}

// TestLaunchdReadsTheJob: a property list holds keys and values in turn, and the
// label is the one that the commands name.
func TestLaunchdReadsTheJob(t *testing.T) {
	file := planFor(t, "darwin", "/opt/bin/wattle").Files[0]
	decoder := xml.NewDecoder(strings.NewReader(file.Content))
	var path []string
	var texts []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, token.Name.Local)
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				texts = append(texts, path[len(path)-1]+" "+text)
			}
		}
	}
	want := []string{
		"key Label", "string " + unit.LaunchdLabel, "key ProgramArguments", "string /opt/bin/wattle", "string daemon", "key RunAtLoad",
		"key KeepAlive", "key SuccessfulExit", "key ExitTimeOut", "integer 30", "key SoftResourceLimits", "key NumberOfFiles", "integer 65536",
		"key StandardErrorPath", "string /var/log/wattle.log",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(file.Path, "/"+unit.LaunchdLabel+".plist") {
		t.Errorf("the file is %s", file.Path)
	}
}

// TestTheScriptOfFreeBSD runs the script with a stand-in for rc.subr(8), and looks
// at what it would start.
func TestTheScriptOfFreeBSD(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED: there is no sh")
	}
	folder := t.TempDir()
	subr := filepath.Join(folder, "rc.subr")
	const stand = "load_rc_config() { :; }\nrun_rc_command() { echo \"$1 $rcvar=$wattle_enable $command $command_args\"; $stop_postcmd; }\n"
	if err := os.WriteFile(subr, []byte(stand), 0o600); err != nil {
		t.Fatal(err)
	}
	script := strings.ReplaceAll(planFor(t, "freebsd", "/bin/echo").Files[0].Content, "/etc/rc.subr", subr)
	command := exec.CommandContext(t.Context(), shell, "-eu", "-s", "start")
	command.Stdin = strings.NewReader(script)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "start wattle_enable=NO /usr/sbin/daemon -f -R 2 -S -T wattle -P /var/run/wattle.pid /bin/echo daemon\ncleanup\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}
