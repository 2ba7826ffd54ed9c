package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// Both configurations hold 1,000 resources in one block, so Terraform's own cost is the same.
const (
	groups = `
terraform {
  required_providers {
    wattle = { source = "wattlenet/wattle" }
  }
}
provider "wattle" {}
resource "wattle_group" "bench" {
  count = 1000
  name  = "bench-${count.index}"
}
`
	builtIn = `
resource "terraform_data" "bench" {
  count = 1000
  input = "bench-${count.index}"
}
`
)

// terraform prints what planning and applying 1,000 groups costs over as many resources that Terraform itself provides.
func terraform(ctx context.Context, c config) error {
	server, err := fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: c.bin, Dir: filepath.Join(c.dir, "server"), On: fleet.Here{},
		Address: "127.0.0.1", Port: "18443", Relay: "13478",
	})
	if err != nil {
		return err
	}
	var applies, plans, ours, theirs []float64
	for round := range max(3, c.rounds/3) {
		a, err := measure(ctx, c, server, fmt.Sprint("ours-", round), groups)
		if err != nil {
			return err
		}
		b, err := measure(ctx, c, server, fmt.Sprint("built-in-", round), builtIn)
		if err != nil {
			return err
		}
		applies = append(applies, a.apply.Seconds()/b.apply.Seconds())
		plans = append(plans, a.plan.Seconds()/b.plan.Seconds())
		ours, theirs = append(ours, a.plan.Seconds()), append(theirs, b.plan.Seconds())
	}
	spread("plan_1000_ratio", plans, "x")
	spread("apply_1000_ratio", applies, "x")
	figure("plan_1000_s", median(ours), "s")
	figure("plan_1000_built_in_s", median(theirs), "s")
	return server.Stop()
}

// A timing is the wall time of one apply and of the empty plan after it.
type timing struct{ apply, plan time.Duration }

func measure(ctx context.Context, c config, server *fleet.Server, name, text string) (timing, error) {
	var t timing
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, fmt.Errorf("make a working folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
		return t, fmt.Errorf("write the configuration: %w", err)
	}
	tf, err := fleet.NewTerraform(fleet.TerraformConfig{Program: c.terraform, Bin: c.bin, Dir: dir, On: fleet.Here{}, Server: server})
	if err != nil {
		return t, err
	}
	if _, err := tf.Run(ctx, "init", "-input=false", "-no-color"); err != nil {
		return t, err
	}
	for _, step := range []struct {
		took *time.Duration
		args []string
	}{
		{&t.apply, []string{"apply", "-auto-approve", "-input=false", "-no-color"}},
		{&t.plan, []string{"plan", "-detailed-exitcode", "-input=false", "-no-color"}},
		{nil, []string{"destroy", "-auto-approve", "-input=false", "-no-color"}},
	} {
		begin := time.Now()
		if _, err := tf.Run(ctx, step.args...); err != nil {
			return t, err
		}
		if step.took != nil {
			*step.took = time.Since(begin)
		}
	}
	return t, nil
}
