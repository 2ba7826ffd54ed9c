//go:build !windows

package service

import (
	"context"
	"errors"
	"os"
	"runtime"
)

// Daemon runs the daemon until ctx ends: the service manager ends the process with
// a signal.
func Daemon(ctx context.Context, serve func(context.Context) error) error { return serve(ctx) }

// Install has the service manager of this machine run the program as the daemon,
// now and whenever the machine boots. With a root it fills the files of another
// machine, such as an image, and starts nothing.
func Install(ctx context.Context, program, root string) error {
	p, err := planHere(program, root)
	if err != nil {
		return err
	}
	return p.Install(ctx, root, Run)
}

// Remove stops the daemon and takes away what Install made.
func Remove(ctx context.Context, program, root string) error {
	p, err := planHere(program, root)
	if err != nil {
		return err
	}
	return p.Remove(ctx, root, Run)
}

// Files are what Install writes for a program.
func Files(program string) ([]File, error) {
	p, err := PlanFor(runtime.GOOS, program)
	return p.Files, err
}

func planHere(program, root string) (Plan, error) {
	p, err := PlanFor(runtime.GOOS, program)
	if err != nil || root != "" || runtime.GOOS != "linux" {
		return p, err
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return p, errors.New("systemd does not run this machine; have its service manager start `wattle daemon`, or name the root of another machine with --root")
	}
	return p, nil
}
