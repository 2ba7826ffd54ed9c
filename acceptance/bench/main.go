// Command bench measures the real programs and prints one line per figure: name value unit.
//
// Ratios compare two things measured in turn in the same run, so they hold on a noisy machine. Figures with several rounds
// are medians; `_worst` is the largest.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// A config is what every benchmark is given.
type config struct {
	bin       string // folder of the built programs
	terraform string // path of terraform or tofu
	rounds    int    // how often each thing is measured
	dir       string // a folder for files, removed at the end
}

// benchmarks lists the groups of figures in the order in which they run; net/ are those of the data plane.
var benchmarks = []struct {
	name string
	run  func(context.Context, config) error
}{
	{"sizes", sizes},
	{"idle", idle},
	{"idle_crowd", idleCrowd},
	{"idle_traffic", idleTraffic},
	{"join", join},
	{"rest", rest},
	{"terraform/1000", terraform},
	{"terraform/5000", terraformMany},
	{"net/first_ping", firstPing},
	{"net/direct_tcp", directTCP},
	{"net/relay_tcp", relayTCP},
	{"net/failover_relay", failoverRelay},
	{"net/failover_to_relay", failoverToRelay},
	{"net/roam", roam},
	{"net/access", access},
	{"net/route_failover", routeFailover},
	{"net/rebind", rebind},
	{"net/restart", restart},
	{"net/upgrade", upgrade},
	{"net/rotation", rotation},
	{"net/nat_matrix", natMatrix},
}

func main() {
	var c config
	flag.StringVar(&c.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&c.terraform, "terraform", "terraform", "Terraform or OpenTofu")
	flag.IntVar(&c.rounds, "rounds", 10, "how often each thing is measured")
	only := flag.String("only", "", "regular expression: only the groups of figures whose name matches")
	flag.Parse()

	if done, err := role(flag.Args()); done {
		exit(err)
	}
	os.Exit(lab.Main(func() int {
		exit(run(c, *only))
		return 0
	}))
}

// exit ends the program: with 0 when there is no error.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(c config, only string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return fmt.Errorf("-bin: %w", err)
	}
	if c.dir, err = os.MkdirTemp("", "wattle-bench-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func(dir string) { _ = os.RemoveAll(dir) }(c.dir) // a leftover in the temporary folder is no reason to fail

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := c.dir
	for _, b := range benchmarks {
		if !pattern.MatchString(b.name) {
			continue
		}
		c.dir = filepath.Join(root, b.name)
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return fmt.Errorf("make the folder of %s: %w", b.name, err)
		}
		if err := b.run(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}
