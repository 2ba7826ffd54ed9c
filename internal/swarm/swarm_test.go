package swarm_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/swarm"
)

// TestSwarmFollowsTheNetwork lets machines enrol with a real control plane, one after the other, and follow what happens
// to the policy.
func TestSwarmFollowsTheNetwork(t *testing.T) {
	server := controlplanetest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only a fault takes as long
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	const machines = 5
	var agents []*swarm.Agent
	for i := range machines {
		agent, err := swarm.Enroll(ctx, swarm.Config{
			SDK: sdk.Config{URL: server.URL, CAPin: server.CAPin}, SetupKey: server.SetupKey, Hostname: fmt.Sprint("machine", i),
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := agent.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		agents = append(agents, agent)
	}
	everybody := func(m *mapstate.Map) bool { return others(m) == machines-1 }
	for _, agent := range agents {
		if err := agent.Wait(ctx, everybody); err != nil {
			t.Fatalf("%s: %v with %+v", agent.Enrolled.Name, err, agent.Map())
		}
	}

	if err := agents[0].Signal(ctx, agents[1].Enrolled.PeerId, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if err := agents[1].Wait(ctx, func(*mapstate.Map) bool { return true }); err != nil {
		t.Fatal(err)
	}

	policies, err := server.Client.ListPolicies(ctx, sdk.ListPoliciesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range policies {
		if err := server.Client.DeletePolicy(ctx, policy.Id); err != nil {
			t.Fatal(err)
		}
	}
	for _, agent := range agents {
		if err := agent.Wait(ctx, func(m *mapstate.Map) bool { return others(m) == 0 && m.Rules.Len() == 0 }); err != nil {
			t.Fatalf("%s: %v with %+v", agent.Enrolled.Name, err, agent.Map())
		}
		if agent.Streams() != 1 {
			t.Errorf("%s needed %d streams", agent.Enrolled.Name, agent.Streams())
		}
	}
	if err := agents[0].Signal(ctx, agents[1].Enrolled.PeerId, []byte("sealed")); !sdk.IsNotFound(err) {
		t.Errorf("a message to a peer that is hidden gives %v", err)
	}
	if got := agents[1].Signals(); len(got) != 1 || got[0].From != agents[0].Enrolled.PeerId || string(got[0].Box) != "sealed" {
		t.Errorf("the second machine got %+v", got)
	}
}

// others counts the peers of a map besides its own.
func others(m *mapstate.Map) int {
	count := m.Peers.Len()
	if _, itself := m.Peers.Get(m.Self.N); itself {
		count--
	}
	return count
}
