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
	return resources(ctx, c, 1000, max(1, c.rounds/3))
}

// terraformMany does that for 5,000 resources, once each: the local backend alone takes minutes.
func terraformMany(ctx context.Context, c config) error { return resources(ctx, c, 5000, 1) }

func resources(ctx context.Context, c config, n, rounds int) error {
	b := terraformBench{config: c, n: n}
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
	reads int64 // of our last plan
}

// A timing is the cost of one apply and of the empty plan after it, which made so many requests to the control plane.
type timing struct {
	apply, plan fleet.Cost
	reads       int64
}

// compare measures both configurations in turn and prints the ratios, with a suffix for the backend.
func (b *terraformBench) compare(ctx context.Context, backend string, rounds int) error {
	suffix := ""
	if backend != "" {
		suffix = "_" + backend
	}
	ratios := map[string][]float64{}
	var plans, theirs []float64
	for round := range rounds {
		mine, err := b.measure(ctx, fmt.Sprint("ours", suffix, "-", round), ours, backend)
		if err != nil {
			return err
		}
		other, err := b.measure(ctx, fmt.Sprint("built-in", suffix, "-", round), builtIn, backend)
		if err != nil {
			return err
		}
		for name, pair := range map[string][2]fleet.Cost{"plan": {mine.plan, other.plan}, "apply": {mine.apply, other.apply}} {
			ratios[name] = append(ratios[name], pair[0].Wall.Seconds()/pair[1].Wall.Seconds())
			ratios[name+"_cpu"] = append(ratios[name+"_cpu"], pair[0].CPU.Seconds()/pair[1].CPU.Seconds())
		}
		b.reads = mine.reads
		plans, theirs = append(plans, mine.plan.Wall.Seconds()), append(theirs, other.plan.Wall.Seconds())
	}
	for _, name := range []string{"plan", "apply"} {
		spread(fmt.Sprintf("%s_%d_ratio%s", name, b.n, suffix), ratios[name], "x")
		figure(fmt.Sprintf("%s_%d_cpu_ratio%s", name, b.n, suffix), median(ratios[name+"_cpu"]), "x")
	}
	figure(fmt.Sprintf("plan_%d_s%s", b.n, suffix), median(plans), "s")
	figure(fmt.Sprintf("plan_%d_built_in_s%s", b.n, suffix), median(theirs), "s")
	return nil
}

// A configuration is the text of n resources; ours is about the machines that it is given.
type configuration func(n int, peers []string) string

// measure applies and plans a configuration on a control plane that knows nothing else.
func (b *terraformBench) measure(ctx context.Context, name string, text configuration, backend string) (t timing, err error) {
	dir := filepath.Join(b.dir, name)
	server, err := fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: b.bin, Dir: filepath.Join(dir, "server"), On: fleet.Here{}, Address: "127.0.0.1", Port: "18443", Relay: "13478",
	})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	peers, err := enrol(ctx, server)
	if err != nil {
		return t, err
	}
	tf, err := b.folder(ctx, server, filepath.Join(dir, "configuration"), text(b.n, peers), backend)
	if err != nil {
		return t, err
	}
	if t.apply, err = tf.Measure(ctx, "apply", "-auto-approve", "-input=false", "-no-color"); err != nil {
		return t, err
	}
	if t.plan, err = tf.Measure(ctx, "plan", "-detailed-exitcode", "-input=false", "-no-color"); err != nil {
		return t, err
	}
	t.reads, err = readsOf(ctx, tf, server)
	return t, err
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
