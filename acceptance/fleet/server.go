package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// ServerConfig says where a control plane runs. All fields but Name and Flags are required.
type ServerConfig struct {
	Bin     string // folder of the built programs
	Dir     string // folder for the server's files; made if need be
	On      Place
	Address string   // IP address that the machines reach it at
	Name    string   // a name for several addresses, in place of Address
	Port    string   // of the API
	Relay   string   // port of the embedded relay
	Flags   []string // more flags of `wattle-server up`
}

// A Server is a running control plane.
type Server struct {
	config  ServerConfig
	program *program

	// Profile is the path of the credentials profile.
	Profile string
	// SetupKeyFile holds the reusable setup key of the new network.
	SetupKeyFile string
	// URL, Token and Pin are what the profile holds.
	URL, Token, Pin string
}

// StartServer starts `wattle-server up` and waits until it is ready.
func StartServer(ctx context.Context, c ServerConfig) (*Server, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the control plane: %w", err)
	}
	s := &Server{
		config:       c,
		Profile:      filepath.Join(c.Dir, "credentials"),
		SetupKeyFile: filepath.Join(c.Dir, "data", "setup-key"),
		URL:          "https://" + net.JoinHostPort(cmp.Or(c.Name, c.Address), c.Port),
	}
	return s, s.Start(ctx)
}

// Start starts the control plane again after Stop or Kill.
func (s *Server) Start(ctx context.Context) error {
	c := s.config
	log := filepath.Join(c.Dir, "log")
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the old log: %w", err)
	}
	at, relay := c.Address, []string{"--relay-address", c.Address}
	if c.Name != "" {
		at, relay = "", nil // every address, the relay under the same name
	}
	args := append([]string{
		"up",
		"--data-dir", filepath.Join(c.Dir, "data"),
		"--listen", net.JoinHostPort(at, c.Port),
		"--public-url", s.URL,
		"--credentials", s.Profile,
		"--relay-listen", net.JoinHostPort(at, c.Relay),
	}, append(relay, c.Flags...)...)
	p, err := start(c.On.Command(ctx, filepath.Join(c.Bin, "wattle-server"), args...), log)
	if err != nil {
		return err
	}
	s.program = p
	err = p.until(ctx, "ready line", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "is ready")
	})
	if err != nil {
		return err
	}
	return s.readProfile()
}

func (s *Server) readProfile() error {
	text, err := os.ReadFile(s.Profile)
	if err != nil {
		return fmt.Errorf("read the credentials profile: %w", err)
	}
	var profile struct {
		Token string `json:"token"`
		CAPin string `json:"ca_pin"`
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		return fmt.Errorf("decode the credentials profile: %w", err)
	}
	s.Token, s.Pin = profile.Token, profile.CAPin
	return nil
}

// PID is the process id of the control plane.
func (s *Server) PID() int { return s.program.cmd.Process.Pid }

// Stop ends the control plane in order.
func (s *Server) Stop() error { return s.program.stop() }

// Kill ends the control plane without giving it time to tidy up.
func (s *Server) Kill() error { return s.program.kill() }
