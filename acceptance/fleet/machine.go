package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// MachineConfig says where an agent runs. All fields but Tunnel and Flags are required.
type MachineConfig struct {
	Bin    string // folder of the built programs
	Dir    string // folder for the agent's files; made if need be
	On     Place
	Name   string   // host name that the agent reports
	Tunnel string   // as in `wattle daemon --tunnel`; empty means userspace
	Flags  []string // more flags of `wattle daemon`
}

// A Machine is a computer with a running agent.
type Machine struct {
	config  MachineConfig
	program *program
	socket  string
}

// StartMachine starts `wattle daemon` and waits until its socket answers.
func StartMachine(ctx context.Context, c MachineConfig) (*Machine, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of %s: %w", c.Name, err)
	}
	m := &Machine{config: c, socket: filepath.Join(c.Dir, "sock")}
	return m, m.Start(ctx)
}

// Start starts the daemon again after Stop or Kill.
func (m *Machine) Start(ctx context.Context) error {
	c := m.config
	tunnel := c.Tunnel
	if tunnel == "" {
		tunnel = "userspace"
	}
	args := append([]string{
		"daemon", "--state-dir", filepath.Join(c.Dir, "state"), "--socket", m.socket, "--tunnel", tunnel, "--hostname", c.Name,
	}, c.Flags...)
	cmd := c.On.Command(ctx, filepath.Join(c.Bin, "wattle"), args...)
	p, err := start(cmd, filepath.Join(c.Dir, "log"))
	if err != nil {
		return err
	}
	m.program = p
	return p.until(ctx, "socket", func() bool {
		_, err := os.Stat(m.socket)
		return err == nil
	})
}

// Up enrols the machine with the setup key in keyFile and waits until it is connected.
func (m *Machine) Up(ctx context.Context, s *Server, keyFile string) error {
	_, err := m.Wattle(ctx, "up", "--management-url", s.URL, "--ca-pin", s.Pin, "--setup-key-file", keyFile)
	return err
}

// Wattle runs the command line against this machine's daemon and returns what it printed.
func (m *Machine) Wattle(ctx context.Context, args ...string) (string, error) {
	args = append(args, "--socket", m.socket)
	return run(m.config.On.Command(ctx, filepath.Join(m.config.Bin, "wattle"), args...))
}

// PID is the process id of the daemon.
func (m *Machine) PID() int { return m.program.cmd.Process.Pid }

// Log returns the last lines of the daemon's log.
func (m *Machine) Log() string { return m.program.tail() }

// Stop ends the daemon in order.
func (m *Machine) Stop() error { return m.program.stop() }

// Kill ends the daemon without giving it time to tidy up.
func (m *Machine) Kill() error { return m.program.kill() }
