package fleet

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// RelayConfig says where a relay runs. All fields are required.
type RelayConfig struct {
	Dir     string // folder for its files; made if need be
	On      Place
	Address string // IP address and port that it listens at, over UDP and TCP
	Secret  string // shared with the control plane

	// Command builds the relay's command line; WattleRelay and Coturn are two.
	Command func(c RelayConfig) []string
}

// A Relay is a running TURN server.
type Relay struct {
	program *program

	// Address is where it listens.
	Address string
	// SecretFile holds the secret, for --relay-secret-file of the control plane.
	SecretFile string
}

// WattleRelay is the command line of wattle-relay from the folder bin.
func WattleRelay(bin string, more ...string) func(RelayConfig) []string {
	return func(c RelayConfig) []string {
		return append([]string{filepath.Join(bin, "wattle-relay"), "--secret-file", filepath.Join(c.Dir, "secret"), "--listen", c.Address}, more...)
	}
}

// Coturn is the command line of coturn, which takes the same credentials: TURN
// REST with a shared secret.
func Coturn(c RelayConfig) []string {
	host, port, _ := net.SplitHostPort(c.Address) // a bad address is told by coturn
	return []string{
		"turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--pidfile", filepath.Join(c.Dir, "pid"),
		"--userdb", filepath.Join(c.Dir, "db"), "--listening-ip", host, "--relay-ip", host, "--listening-port", port,
		"--realm", "wattle", "--use-auth-secret", "--static-auth-secret", c.Secret,
	}
}

// HasCoturn tells whether coturn is installed.
func HasCoturn() bool {
	_, err := exec.LookPath("turnserver")
	return err == nil
}

// StartRelay starts a relay and waits until it listens.
func StartRelay(ctx context.Context, c RelayConfig) (*Relay, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of a relay: %w", err)
	}
	r := &Relay{Address: c.Address, SecretFile: filepath.Join(c.Dir, "secret")}
	if err := os.WriteFile(r.SecretFile, []byte(c.Secret), 0o600); err != nil {
		return nil, fmt.Errorf("write the secret of a relay: %w", err)
	}
	args := c.Command(c)
	var err error
	if r.program, err = start(c.On.Command(ctx, args[0], args[1:]...), filepath.Join(c.Dir, "log")); err != nil {
		return nil, err
	}
	return r, r.program.until(ctx, "listener", func() bool {
		out, err := c.On.Command(ctx, "ss", "-Hlun", "src", c.Address).Output()
		return err == nil && len(out) > 0
	})
}

// PID is the process id of the relay.
func (r *Relay) PID() int { return r.program.cmd.Process.Pid }

// Kill ends the relay without giving it time to say goodbye.
func (r *Relay) Kill() error { return r.program.kill() }
