// Command quickstart shows the main job from nothing: a control plane, terraform apply, two machines that ping by name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

func main() {
	var d demonstration
	flag.StringVar(&d.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&d.terraform, "terraform", "terraform", "Terraform or OpenTofu")
	flag.StringVar(&d.example, "example", "examples/quickstart", "folder of the configuration to apply")
	flag.Parse()

	code := lab.Main(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := d.show(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "quickstart:", err)
			return 1
		}
		return 0
	})
	os.Exit(code)
}

// A demonstration is one run from nothing to a ping.
type demonstration struct {
	bin, terraform, example string

	dir    string
	sites  sites
	server *fleet.Server
	tf     *fleet.Terraform
	a, b   *fleet.Machine
}

// sites says where the programs run.
type sites struct {
	server, a, b fleet.Place
	address      string // of the control plane
	tunnel       string // as in `wattle daemon --tunnel`
	note         string // for the reader
}

// places builds two machines and a server in a lab, or uses this machine where namespaces are not allowed.
func places() (sites, func() error, error) {
	l, refusal := lab.Open()
	if l == nil {
		return sites{
			server: fleet.Here{}, a: fleet.Here{}, b: fleet.Here{}, address: "127.0.0.1", tunnel: "netstack",
			note: fmt.Sprintf("in userspace on loopback, since namespaces cannot be made here (%v)", refusal),
		}, func() error { return nil }, nil
	}
	router, err := l.Router("router", lab.None, l.Internet())
	if err != nil {
		return sites{}, nil, errors.Join(err, l.Close())
	}
	server, err1 := l.Host("server", l.Internet())
	a, err2 := l.Host("machine-a", router)
	b, err3 := l.Host("machine-b", router)
	if err := errors.Join(err1, err2, err3); err != nil {
		return sites{}, nil, errors.Join(err, l.Close())
	}
	return sites{
		server: server, a: a, b: b, address: server.Addr.String(), tunnel: "userspace",
		note: "in network namespaces of their own, without root",
	}, l.Close, nil
}

// show runs the steps, tells how long each took, and removes everything it made.
func (d *demonstration) show(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if d.dir, err = os.MkdirTemp("", "wattle-quickstart-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if d.bin, err = filepath.Abs(d.bin); err != nil {
		return fmt.Errorf("-bin: %w", err)
	}
	s, closeSites, err := places()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSites()) }()
	defer func() { err = errors.Join(err, d.stop()) }()
	d.sites = s

	begin := time.Now()
	fmt.Printf("\nWattle: a control plane and two machines, %s.\n\n", s.note)
	for i, step := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"start a control plane on SQLite with its own relay", d.startServer},
		{"terraform init with the provider that was just built", d.initTerraform},
		{"terraform apply examples/quickstart", d.apply},
		{"terraform plan again", d.planAgain},
		{"enrol two machines with the setup key of that apply", d.enrol},
		{"ping by name through the tunnel", d.ping},
	} {
		start := time.Now()
		detail, err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("%d. %-56s %6.2f s\n", i+1, step.what, time.Since(start).Seconds())
		for line := range strings.Lines(detail) {
			fmt.Printf("     %s\n", strings.TrimRight(line, "\n"))
		}
	}
	fmt.Printf("\nDone in %.1f s. Everything was temporary and is being removed.\n%s", time.Since(begin).Seconds(), next)
	return nil
}

const next = `
How to go on:
  bin/wattle-server up --public-url https://ADDRESS:8443      on the machine that shall be the control plane
  examples/quickstart/main.tf                                 a first network to copy and change
  bin/wattle daemon, then bin/wattle up --help                on each machine that shall join
  README.md                                                   the rest
`

func (d *demonstration) startServer(ctx context.Context) (string, error) {
	var err error
	d.server, err = fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: d.bin, Dir: filepath.Join(d.dir, "server"), On: d.sites.server,
		Address: d.sites.address, Port: "18443", Relay: "13478",
	})
	return "", err
}

func (d *demonstration) initTerraform(ctx context.Context) (string, error) {
	dir := filepath.Join(d.dir, "terraform")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the working folder: %w", err)
	}
	if err := fleet.Copy(dir, d.example); err != nil {
		return "", err
	}
	var err error
	d.tf, err = fleet.NewTerraform(fleet.TerraformConfig{Program: d.terraform, Bin: d.bin, Dir: dir, On: d.sites.server, Server: d.server})
	if err != nil {
		return "", err
	}
	_, err = d.tf.Run(ctx, "init", "-input=false", "-no-color")
	return "", err
}

func (d *demonstration) apply(ctx context.Context) (string, error) {
	out, err := d.tf.Run(ctx, "apply", "-auto-approve", "-input=false", "-no-color")
	return pick(out, "Apply complete"), err
}

func (d *demonstration) planAgain(ctx context.Context) (string, error) {
	out, err := d.tf.Run(ctx, "plan", "-detailed-exitcode", "-input=false", "-no-color")
	return pick(out, "No changes"), err
}

func (d *demonstration) enrol(ctx context.Context) (string, error) {
	key, err := d.tf.Run(ctx, "output", "-raw", "setup_key")
	if err != nil {
		return "", err
	}
	file := filepath.Join(d.dir, "setup-key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		return "", fmt.Errorf("write the setup key: %w", err)
	}
	for _, m := range []struct {
		name    string
		place   fleet.Place
		machine **fleet.Machine
	}{{"machine-a", d.sites.a, &d.a}, {"machine-b", d.sites.b, &d.b}} {
		*m.machine, err = fleet.StartMachine(ctx, fleet.MachineConfig{
			Bin: d.bin, Dir: filepath.Join(d.dir, m.name), On: m.place, Name: m.name, Tunnel: d.sites.tunnel,
		})
		if err != nil {
			return "", err
		}
		if err := (*m.machine).Up(ctx, d.server, file); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (d *demonstration) ping(ctx context.Context) (string, error) {
	out, err := d.a.Wattle(ctx, "ping", "machine-b", "-n", "3")
	if err != nil {
		return "", fmt.Errorf("%w\nlog of machine-a:\n%s\nlog of machine-b:\n%s", err, d.a.Log(), d.b.Log())
	}
	return "$ wattle ping machine-b -n 3\n" + out, nil
}

// stop ends what runs, in the reverse order.
func (d *demonstration) stop() error {
	var errs []error
	for _, m := range []*fleet.Machine{d.a, d.b} {
		if m != nil {
			errs = append(errs, m.Stop())
		}
	}
	if d.server != nil {
		errs = append(errs, d.server.Stop())
	}
	return errors.Join(errs...)
}

// pick returns the first line of text that begins with prefix.
func pick(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}
