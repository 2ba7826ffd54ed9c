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
)

// A config is what every benchmark is given.
type config struct {
	bin       string // folder of the built programs
	terraform string // path of terraform or tofu
	rounds    int    // how often each thing is measured
	dir       string // a folder for files, removed at the end
}

// benchmarks lists the groups of figures in the order in which they run.
var benchmarks = []struct {
	name string
	run  func(context.Context, config) error
}{
	{"sizes", sizes},
	{"idle", idle},
	{"join", join},
	{"terraform", terraform},
	{"first_ping", firstPing},
	{"direct_tcp", directTCP},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var c config
	flag.StringVar(&c.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&c.terraform, "terraform", "terraform", "Terraform or OpenTofu")
	flag.IntVar(&c.rounds, "rounds", 10, "how often each thing is measured")
	only := flag.String("only", "", "regular expression: only the groups of figures whose name matches")
	flag.Parse()

	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return fmt.Errorf("-bin: %w", err)
	}
	if entered, err := enter(); entered || err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "wattle-bench-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(c.dir) }() // a leftover in the temporary folder is no reason to fail

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, b := range benchmarks {
		if !pattern.MatchString(b.name) {
			continue
		}
		c := c
		c.dir = filepath.Join(c.dir, b.name)
		if err := os.Mkdir(c.dir, 0o700); err != nil {
			return fmt.Errorf("make the folder of %s: %w", b.name, err)
		}
		if err := b.run(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}
