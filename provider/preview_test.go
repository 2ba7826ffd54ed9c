package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// twoMachines are a control plane with the machines alpha and beta, each in a
// group of its own, and a proxy before it that counts the dry runs.
type twoMachines struct {
	*controlplanetest.Server
	gate  *gate
	alpha string // ids of the groups
	beta  string

	mu    sync.Mutex // guards all below
	tried []string
	down  int // status of the answer to a dry run; 0 for the server's own
}

func newTwoMachines(t *testing.T) *twoMachines {
	t.Helper()
	p := &twoMachines{Server: controlplanetest.New(t)}
	for name, group := range map[string]*string{"alpha": &p.alpha, "beta": &p.beta} {
		machine := controlplanetest.NewMachine(t, p.Server)
		if _, err := p.Client.UpdatePeer(t.Context(), machine.PeerID, api.PeerRequest{Name: &name}); err != nil {
			t.Fatal(err)
		}
		made, err := p.Client.CreateGroup(t.Context(), api.GroupRequest{Name: name + "s"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Client.CreateGroupMembership(t.Context(), made.Id, api.GroupMembershipRequest{PeerId: machine.PeerID}); err != nil {
			t.Fatal(err)
		}
		*group = made.Id
	}
	policies, err := p.Client.ListPolicies(t.Context(), sdk.ListPoliciesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range policies { // the one that lets all reach all
		if err := p.Client.DeletePolicy(t.Context(), policy.Id); err != nil {
			t.Fatal(err)
		}
	}
	p.gate = newGate(t, p.Server)
	p.gate.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("dry_run") == "" {
			return false
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tried = append(p.tried, r.Method)
		if p.down != 0 {
			refuseWith(w, api.ProblemUnavailable, "1")
		}
		return p.down != 0
	})
	return p
}

// asked are the methods of the dry runs since the last call.
func (p *twoMachines) asked() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.tried = nil }()
	return strings.Join(p.tried, " ")
}

const accessPrelude = `
terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}
`

// policyText is a policy that lets sources reach beta on a port.
func (p *twoMachines) policyText(source, port string) string {
	return `
resource "wattle_policy" "web" {
  name = "web"
  rules = {
    "one" = {
      sources       = ["` + source + `"]
      destinations  = ["` + p.beta + `"]
      bidirectional = false
      protocol      = "tcp"
      ports         = ["` + port + `"]
    }
  }
}
`
}

func (c *command) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAccessPreview: a plan tells who gains and who loses access, in names, and
// says nothing where nobody does.
func TestAccessPreview(t *testing.T) {
	p := newTwoMachines(t)
	c := newCommand(t, p.Server, p.gate.URL)
	says := func(step, asked string, want ...string) {
		t.Helper()
		out := c.run(t, 0, "plan", "-no-color")
		for _, line := range want {
			if !strings.Contains(out, line) {
				t.Errorf("%s: the plan lacks %q:\n%s", step, line, out)
			}
		}
		if len(want) == 0 && strings.Contains(out, "Access changes") {
			t.Errorf("%s: the plan warns:\n%s", step, out)
		}
		if got := p.asked(); got != asked {
			t.Errorf("%s: dry runs %q, want %q", step, got, asked)
		}
	}
	c.write(t, accessPrelude+p.policyText(p.beta, "22"))
	says("a policy within one machine", "GET POST")
	c.run(t, 0, "apply", "-auto-approve")
	p.asked()
	says("nothing", "")

	c.write(t, accessPrelude+p.policyText(p.alpha, "22"))
	says("another source", "GET PUT", "Warning: Access changes: policy web", "1 pair of machines gains access:", "alpha to beta: tcp/22")
	if out := c.run(t, 0, "apply", "-auto-approve", "-no-color"); strings.Count(out, "Access changes") != 1 || p.asked() != "GET PUT" {
		t.Errorf("an apply tells it once, while it plans:\n%s", out)
	}

	c.write(t, accessPrelude+p.policyText(p.alpha, "80"))
	says("another port", "GET PUT", "1 pair of machines gets other access:", "alpha to beta: tcp/22 becomes tcp/80")

	c.write(t, accessPrelude)
	says("no policy", "GET DELETE", "1 pair of machines loses access:", "alpha to beta: tcp/22")

	c.write(t, accessPrelude+`provider "wattle" { access_preview = false }`)
	says("turned off", "")
}

// TestAccessPreviewFails: a server that cannot preview is asked once and the
// plan is what it would be.
func TestAccessPreviewFails(t *testing.T) {
	p := newTwoMachines(t)
	p.down = http.StatusServiceUnavailable
	c := newCommand(t, p.Server, p.gate.URL)
	c.write(t, accessPrelude+p.policyText(p.alpha, "22"))
	out := c.run(t, 0, "plan", "-no-color")
	if !strings.Contains(out, "1 to add, 0 to change, 0 to destroy") || strings.Contains(out, "Warning: Access") || strings.Contains(out, "come back later") {
		t.Errorf("the plan says\n%s", out)
	}
	if got := p.asked(); got != "GET" {
		t.Errorf("dry runs %q, want one", got)
	}
}

// TestAccessPreviewIsBounded: a plan of many changes asks about some, and says
// so once where those mean something; references that are not known yet are not asked about.
func TestAccessPreviewIsBounded(t *testing.T) {
	p := newTwoMachines(t)
	c := newCommand(t, p.Server, p.gate.URL)
	c.write(t, accessPrelude+`
resource "wattle_group" "many" {
  count = 40
  name  = "many ${count.index}"
}
resource "wattle_policy" "many" {
  count = 40
  name  = "many ${count.index}"
  rules = {
    "one" = { sources = [wattle_group.many[count.index].id], destinations = ["`+p.beta+`"] }
  }
}
`)
	out := c.run(t, 0, "plan", "-no-color")
	if got := strings.Fields(p.asked()); len(got) != 21 || got[0] != "GET" {
		t.Errorf("%d dry runs, want the question whether the server can and 20", len(got))
	}
	if strings.Contains(out, "Warning: Access") {
		t.Errorf("nothing changes for anybody, and the plan says\n%s", out)
	}
	c.write(t, accessPrelude+`
resource "wattle_policy" "many" {
  count = 40
  name  = "many ${count.index}"
  rules = {
    "one" = { sources = ["`+p.alpha+`"], destinations = ["`+p.beta+`"] }
  }
}
`)
	out = c.run(t, 0, "plan", "-no-color")
	if got := strings.Fields(p.asked()); len(got) != 21 {
		t.Errorf("%d dry runs, want the question whether the server can and 20", len(got))
	}
	if strings.Count(out, "More than 20 objects change") != 1 {
		t.Errorf("the plan says\n%s", out)
	}
}

// TestAccessPreviewOfStranger: a server that does not know dry runs is asked to
// do nothing that it would carry out.
func TestAccessPreviewOfStranger(t *testing.T) {
	p := newTwoMachines(t)
	p.gate.set(func(_ http.ResponseWriter, r *http.Request) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tried = append(p.tried, r.Method)
		query := r.URL.Query()
		query.Del("dry_run")
		r.URL.RawQuery = query.Encode()
		return false
	})
	c := newCommand(t, p.Server, p.gate.URL)
	c.write(t, accessPrelude+p.policyText(p.alpha, "22"))
	if out := c.run(t, 0, "plan", "-no-color"); strings.Contains(out, "Warning: Access") || !strings.Contains(out, "1 to add") {
		t.Errorf("the plan says\n%s", out)
	}
	if got := p.asked(); got != "GET" {
		t.Errorf("requests %q, want one read", got)
	}
}
