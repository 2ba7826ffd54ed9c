// Package fleet runs the real programs of one network: a control plane, machines and Terraform.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Place is where a program runs: a host of a lab, or this machine.
type Place interface {
	// Command prepares a program at this place. It is killed when ctx ends.
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
}

// Here is this machine, without a namespace of its own.
type Here struct{}

// Command prepares a program on this machine.
func (Here) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// A program is a running process whose output goes to a log file.
type program struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // of Wait; read after done is closed
}

// start runs cmd in the background with its output in the file log.
func start(cmd *exec.Cmd, log string) (*program, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", filepath.Base(cmd.Path), err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err), f.Close())
	}
	p := &program{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = errors.Join(cmd.Wait(), f.Close())
	}()
	return p, nil
}

// stop asks the program to end, kills it after five seconds, and waits for it.
func (p *program) stop() error {
	return p.end(syscall.SIGTERM)
}

// kill ends the program at once and waits for it.
func (p *program) kill() error {
	return p.end(syscall.SIGKILL)
}

func (p *program) end(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", filepath.Base(p.cmd.Path), err)
	}
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", filepath.Base(p.cmd.Path), err)
	}
	<-p.done
	return nil
}

// exited tells whether the program has ended.
func (p *program) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail returns the last lines of the program's output.
func (p *program) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// until calls ready every 5 ms until it returns true, the program ends, or ctx does.
func (p *program) until(ctx context.Context, what string, ready func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		if p.exited() {
			return fmt.Errorf("%s ended before %s:\n%s", filepath.Base(p.cmd.Path), what, p.tail())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s: %w\n%s", filepath.Base(p.cmd.Path), what, context.Cause(ctx), p.tail())
		case <-tick.C:
		}
	}
	return nil
}

// run runs cmd to its end and returns its standard output; an error carries what it wrote to standard error.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}
