package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/wattlenet/wattle/internal/folder"
	"github.com/wattlenet/wattle/internal/unit"
)

// A File is what a service manager reads.
type File struct {
	Path    string // of the machine that is to run the daemon
	Content string
	Mode    fs.FileMode
}

// A Plan is how a service manager comes to run the daemon, and ceases to.
type Plan struct {
	Files []File
	Start []Command // with the files in place; harmless for a daemon that runs
	Stop  []Command // before the files go
	Gone  []Command // after that
}

// A Command is a program and its arguments.
type Command []string

// A Runner runs a command of a Plan.
type Runner func(ctx context.Context, c Command) error

// PlanFor returns the plan for an operating system, as Go names it, and the path
// of the agent there. It fails for a system that has none, and for a path that a
// service manager would not read as it stands.
func PlanFor(system, program string) (Plan, error) {
	var p Plan
	switch system {
	case "linux":
		p = systemd()
	case "darwin":
		p = launchd()
	case "freebsd":
		p = rc()
	default:
		return Plan{}, fmt.Errorf("the service manager of %s is not known; have it start %s daemon", system, program)
	}
	if !strings.HasPrefix(program, "/") || strings.ContainsFunc(program, odd) {
		return Plan{}, fmt.Errorf("the service would start %q; install the program at a path of letters, digits and ./_+- such as %s", program, unit.Program)
	}
	for i, file := range p.Files {
		p.Files[i].Content = strings.ReplaceAll(file.Content, unit.Program, program)
	}
	return p, nil
}

// odd reports whether a letter of a path means something to a service manager or
// to a shell.
func odd(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("./_+-", r)
}

func systemd() Plan {
	return Plan{
		Files: []File{
			{"/etc/systemd/system/wattle.service", unit.Agent, 0o644},
			{"/etc/systemd/system/wattle-wait-online.service", unit.Wait, 0o644},
			{"/etc/systemd/system/wattle-online.target", unit.Online, 0o644},
			{"/etc/sysusers.d/wattle.conf", unit.AgentUser, 0o644},
			{"/etc/polkit-1/rules.d/50-wattle.rules", unit.AgentRights, 0o644},
		},
		Start: []Command{
			{"systemd-sysusers", "wattle.conf"},
			{"systemctl", "daemon-reload"},
			{"systemctl", "enable", "--now", "wattle.service"},
		},
		Stop: []Command{{"systemctl", "disable", "--now", "wattle-wait-online.service", "wattle.service"}},
		Gone: []Command{{"systemctl", "daemon-reload"}},
	}
}

func launchd() Plan {
	const path = "/Library/LaunchDaemons/" + unit.LaunchdLabel + ".plist"
	return Plan{
		Files: []File{{path, unit.Launchd, 0o644}},
		Start: []Command{
			// A job that is there already is not put there again, and the error about
			// that is the same as any other.
			{"/bin/sh", "-c", "launchctl print system/" + unit.LaunchdLabel + " >/dev/null 2>&1 || launchctl bootstrap system " + path},
		},
		Stop: []Command{{"launchctl", "bootout", "system/" + unit.LaunchdLabel}},
	}
}

func rc() Plan {
	return Plan{
		Files: []File{{"/usr/local/etc/rc.d/wattle", unit.RC, 0o755}},
		Start: []Command{{"sysrc", "wattle_enable=YES"}, {"/bin/sh", "-c", "service wattle status >/dev/null 2>&1 || service wattle start"}},
		Stop:  []Command{{"service", "wattle", "stop"}, {"sysrc", "-x", "wattle_enable"}},
	}
}

// Install writes the files and starts the daemon. Below a root other than "" the
// files alone are written: an image starts the daemon when it boots.
func (p Plan) Install(ctx context.Context, root string, run Runner) error {
	for _, file := range p.Files {
		path := filepath.Join(root, file.Path)
		if held, err := os.ReadFile(path); err == nil && bytes.Equal(held, []byte(file.Content)) { //nolint:gosec // of the plan
			continue
		}
		err := os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // of the system, which everybody reads
		if err == nil {
			err = folder.Replace(path, []byte(file.Content), file.Mode)
		}
		if err != nil {
			return rights("install the service", err)
		}
	}
	if root != "" {
		return nil
	}
	return all(ctx, p.Start, run)
}

// Remove stops the daemon and removes the files. What is gone already is no fault.
// Below a root other than "" nothing is stopped.
func (p Plan) Remove(ctx context.Context, root string, run Runner) error {
	found := false
	for _, file := range p.Files {
		_, err := os.Lstat(filepath.Join(root, file.Path))
		found = found || err == nil
	}
	if !found {
		return nil
	}
	if root == "" {
		if err := all(ctx, p.Stop, run); err != nil {
			return err
		}
	}
	for _, file := range p.Files {
		if err := os.Remove(filepath.Join(root, file.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return rights("remove the service", err)
		}
	}
	if root != "" {
		return nil
	}
	return all(ctx, p.Gone, run)
}

func all(ctx context.Context, commands []Command, run Runner) error {
	for _, c := range commands {
		if err := run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func rights(what string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w; run the command as root", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Run runs a command on this machine. The error holds what it wrote.
func Run(ctx context.Context, c Command) error {
	out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput() //nolint:gosec // of a plan
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
