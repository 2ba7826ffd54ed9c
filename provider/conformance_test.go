package main

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/provider/internal/conformance"
)

// TestConformance tries every attribute of every noun on a real control plane.
func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: runs Terraform some hundred times")
	}
	plane := controlplanetest.New(t)
	existing := map[string][]string{"user": {plane.OwnerID, plane.OwnerID}}
	for range 2 {
		existing["peer"] = append(existing["peer"], controlplanetest.NewMachine(t, plane).PeerID)
	}
	conformance.Run(t, conformance.Server{
		URL: plane.URL, Token: plane.Token, Existing: existing,
		// A revoked key stays revoked: a new one is made instead.
		OneWay: []string{"setup_key.revoked"},
	})
}
