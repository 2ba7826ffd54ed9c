package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/swarm"
)

// machines is how many simulated machines the memberships are about.
const machines = 100

// terraform prints what planning and applying 1,000 resources of ours costs over as many that Terraform itself provides,
// in the same graph, with the state in a file and in the control plane.
func terraform(ctx context.Context, c config) error {
	return resources(ctx, c, 1000, max(1, c.rounds/3), planTurns)
}

// terraformMany does that for 5,000 resources, once each: the local backend alone takes minutes.
func terraformMany(ctx context.Context, c config) error { return resources(ctx, c, 5000, 1, 1) }

// planTurns is how often both configurations are planned in turn after each apply: one plan of a few seconds says little on
// a machine that others use too.
const planTurns = 3

func resources(ctx context.Context, c config, n, rounds, turns int) error {
	b := terraformBench{config: c, n: n, turns: turns}
	for _, backend := range []string{"", "http"} {
		if err := b.compare(ctx, backend, rounds); err != nil {
			return err
		}
	}
	figure(fmt.Sprintf("reads_per_plan_%d", n), float64(b.reads), "requests")
	return nil
}

// enrol returns the ids of simulated machines.
func enrol(ctx context.Context, server *fleet.Server) ([]string, error) {
	key, err := os.ReadFile(server.SetupKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the setup key: %w", err)
	}
	var ids []string
	for i := range machines {
		agent, err := swarm.Enroll(ctx, swarm.Config{
			SDK: sdk.Config{URL: server.URL, CAPin: server.Pin}, SetupKey: strings.TrimSpace(string(key)), Hostname: fmt.Sprint("bench-", i),
		})
		if err != nil {
			return nil, err
		}
		ids = append(ids, agent.Enrolled.PeerId)
	}
	return ids, nil
}

// mostHubs is how many groups the others may refer to. Terraform draws an edge from each instance that refers to a resource with
// count to every instance of that: among 5,000 resources that would be millions, and gigabytes before the first request.
const mostHubs = 350

// A mix is how many of each kind make up a number of resources: the others refer to the hubs, not to the other groups, and
// the DNS records are in one zone.
type mix struct{ hubs, groups, policies, edges, records int }

func mixOf(n int) mix {
	m := mix{hubs: n * 35 / 100, policies: n * 25 / 100, edges: n * 20 / 100, records: n*20/100 - 1}
	if m.hubs > mostHubs {
		m.hubs, m.groups = fewHubs, m.hubs-fewHubs
	}
	return m
}

// fewHubs is enough for the memberships of 5,000 resources.
const fewHubs = 20

// ours is n groups, policies, memberships and DNS records: each policy leads from one hub to the next, each hub gets the
// machines in turn.
func ours(n int, peers []string) string {
	m := mixOf(n)
	return fmt.Sprintf(`
terraform {
  required_providers {
    wattle = { source = "wattlenet/wattle" }
  }
}
provider "wattle" {}
locals {
  peers = %s
}
resource "wattle_group" "hub" {
  count = %d
  name  = "hub-${count.index}"
}
resource "wattle_group" "bench" {
  count = %d
  name  = "bench-${count.index}"
}
resource "wattle_policy" "bench" {
  count = %d
  name  = "bench-${count.index}"
  rules = {
    web = {
      sources      = [wattle_group.hub[count.index %% %d].id]
      destinations = [wattle_group.hub[(count.index + 1) %% %d].id]
      protocol     = "tcp"
      ports        = ["443"]
    }
  }
}
resource "wattle_group_membership" "bench" {
  count    = %d
  group_id = wattle_group.hub[floor(count.index / %d)].id
  peer_id  = local.peers[count.index %% %d]
}
resource "wattle_dns_zone" "bench" {
  name                = "bench"
  domain              = "bench.example.org"
  distribution_groups = [wattle_group.hub[0].id]
}
resource "wattle_dns_record" "bench" {
  count   = %d
  zone_id = wattle_dns_zone.bench.id
  name    = "host-${count.index}.bench.example.org"
  type    = "A"
  content = cidrhost("10.0.0.0/16", count.index)
}
`, hclList(peers), m.hubs, m.groups, m.policies, m.hubs, m.hubs, m.edges, machines, machines, m.records)
}

// builtIn is the same graph of values that Terraform keeps itself.
func builtIn(n int, _ []string) string {
	m := mixOf(n)
	return fmt.Sprintf(`
resource "terraform_data" "hub" {
  count = %d
  input = "hub-${count.index}"
}
resource "terraform_data" "group" {
  count = %d
  input = "bench-${count.index}"
}
resource "terraform_data" "policy" {
  count = %d
  input = {
    name         = "bench-${count.index}"
    sources      = [terraform_data.hub[count.index %% %d].id]
    destinations = [terraform_data.hub[(count.index + 1) %% %d].id]
    protocol     = "tcp"
    ports        = ["443"]
  }
}
resource "terraform_data" "membership" {
  count = %d
  input = {
    group_id = terraform_data.hub[floor(count.index / %d)].id
    peer_id  = "peer-${count.index %% %d}"
  }
}
resource "terraform_data" "zone" {
  input = {
    name                = "bench"
    domain              = "bench.example.org"
    distribution_groups = [terraform_data.hub[0].id]
  }
}
resource "terraform_data" "record" {
  count = %d
  input = {
    zone_id = terraform_data.zone.id
    name    = "host-${count.index}.bench.example.org"
    type    = "A"
    content = cidrhost("10.0.0.0/16", count.index)
  }
}
`, m.hubs, m.groups, m.policies, m.hubs, m.hubs, m.edges, machines, machines, m.records)
}

func hclList(texts []string) string { return `["` + strings.Join(texts, `", "`) + `"]` }

// A terraformBench compares two configurations of n resources, each with a control plane of its own.
type terraformBench struct {
	config
	n     int
	turns int   // how often both are planned after an apply
	reads int64 // of our last plan
}

// compare measures both configurations in turn and prints the ratios, with a suffix for the backend.
func (b *terraformBench) compare(ctx context.Context, backend string, rounds int) error {
	suffix := ""
	if backend != "" {
		suffix = "_" + backend
	}
	found := contest{ratios: map[string][]float64{}}
	for round := range rounds {
		if err := b.round(ctx, fmt.Sprint(suffix, "-", round), backend, &found); err != nil {
			return err
		}
	}
	for _, name := range []string{"plan", "apply"} {
		spread(fmt.Sprintf("%s_%d_ratio%s", name, b.n, suffix), found.ratios[name], "x")
		figure(fmt.Sprintf("%s_%d_cpu_ratio%s", name, b.n, suffix), median(found.ratios[name+"_cpu"]), "x")
	}
	figure(fmt.Sprintf("plan_%d_s%s", b.n, suffix), median(found.plans), "s")
	figure(fmt.Sprintf("plan_%d_built_in_s%s", b.n, suffix), median(found.theirs), "s")
	return nil
}

// A contest is what was found in all rounds of one backend.
type contest struct {
	ratios        map[string][]float64 // by what was done, with _cpu for processor time
	plans, theirs []float64            // seconds
}

func (c *contest) add(name string, ours, builtIn fleet.Cost) {
	c.ratios[name] = append(c.ratios[name], ours.Wall.Seconds()/builtIn.Wall.Seconds())
	c.ratios[name+"_cpu"] = append(c.ratios[name+"_cpu"], ours.CPU.Seconds()/builtIn.CPU.Seconds())
}

// round applies both configurations, each on a control plane of its own, and plans them in turn.
func (b *terraformBench) round(ctx context.Context, suffix, backend string, found *contest) (err error) {
	mine, err := b.apply(ctx, "ours"+suffix, ours, backend, "18443", "13478")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mine.server.Stop()) }()
	other, err := b.apply(ctx, "built-in"+suffix, builtIn, backend, "18445", "13480")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.server.Stop()) }()
	found.add("apply", mine.cost, other.cost)
	for range b.turns {
		plan, err := mine.plan(ctx)
		if err != nil {
			return err
		}
		theirs, err := other.plan(ctx)
		if err != nil {
			return err
		}
		found.add("plan", plan, theirs)
		found.plans, found.theirs = append(found.plans, plan.Wall.Seconds()), append(found.theirs, theirs.Wall.Seconds())
	}
	b.reads, err = readsOf(ctx, mine.tf, mine.server)
	return err
}

// A configuration is the text of n resources; ours is about the machines that it is given.
type configuration func(n int, peers []string) string

// A deployed is a configuration on a control plane that knows nothing else, and what applying it cost.
type deployed struct {
	server *fleet.Server
	tf     *fleet.Terraform
	cost   fleet.Cost
}

// apply starts a control plane and applies a configuration to it. The caller stops it.
func (b *terraformBench) apply(ctx context.Context, name string, text configuration, backend, port, relay string) (a *deployed, err error) {
	dir := filepath.Join(b.dir, name)
	server, err := fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: b.bin, Dir: filepath.Join(dir, "server"), On: fleet.Here{}, Address: "127.0.0.1", Port: port, Relay: relay,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Stop())
		}
	}()
	peers, err := enrol(ctx, server)
	if err != nil {
		return nil, err
	}
	a = &deployed{server: server}
	if a.tf, err = b.folder(ctx, server, filepath.Join(dir, "configuration"), text(b.n, peers), backend); err != nil {
		return nil, err
	}
	a.cost, err = a.tf.Measure(ctx, "apply", "-auto-approve", "-input=false", "-no-color")
	return a, err
}

// plan is the cost of a plan, which must be empty.
func (a *deployed) plan(ctx context.Context) (fleet.Cost, error) {
	return a.tf.Measure(ctx, "plan", "-detailed-exitcode", "-input=false", "-no-color")
}

// folder is a working folder in which a configuration is initialised.
func (b *terraformBench) folder(ctx context.Context, server *fleet.Server, dir, text, backend string) (*fleet.Terraform, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a working folder: %w", err)
	}
	if backend != "" {
		text += fmt.Sprintf("terraform {\n  backend %q {}\n}\n", backend)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	tf, err := fleet.NewTerraform(fleet.TerraformConfig{Program: b.terraform, Bin: b.bin, Dir: dir, On: fleet.Here{}, Server: server})
	if err != nil {
		return nil, err
	}
	if backend != "" {
		authority, err := os.ReadFile(server.Profile + ".ca.pem")
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the control plane: %w", err)
		}
		address := server.URL + "/api/terraform/states/bench"
		for variable, value := range map[string]string{
			"TF_HTTP_ADDRESS": address, "TF_HTTP_LOCK_ADDRESS": address, "TF_HTTP_UNLOCK_ADDRESS": address,
			"TF_HTTP_USERNAME": "wattle", "TF_HTTP_PASSWORD": server.Token, "TF_HTTP_CLIENT_CA_CERTIFICATE_PEM": string(authority),
		} {
			tf.Setenv(variable, value)
		}
	}
	_, err = tf.Run(ctx, "init", "-input=false", "-no-color")
	return tf, err
}

// readsOf counts the requests with which the provider refreshes everything for a plan that changes nothing.
func readsOf(ctx context.Context, tf *fleet.Terraform, server *fleet.Server) (int64, error) {
	target, err := url.Parse(server.URL)
	if err != nil {
		return 0, fmt.Errorf("the address of the control plane: %w", err)
	}
	var asked atomic.Int64
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { asked.Add(1); r.SetURL(target) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // on the loopback, to a server that this program started
	})
	defer front.Close()
	tf.Setenv("WATTLE_URL", front.URL)
	tf.Setenv("WATTLE_TOKEN", server.Token)
	_, err = tf.Run(ctx, "plan", "-detailed-exitcode", "-input=false", "-no-color")
	return asked.Load(), err
}
