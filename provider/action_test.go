package main

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// invoke plans and runs an action and returns what it says.
func (s *served) invoke(t *testing.T, name string, arguments map[string]any) string {
	t.Helper()
	actions, ok := s.ProviderServer.(tfprotov6.ActionServer)
	if !ok {
		t.Fatal("the provider runs no actions")
	}
	config := object(t, s.schemas.ActionSchemas[name].Schema.ValueType(), arguments)
	planned, err := actions.PlanAction(t.Context(), &tfprotov6.PlanActionRequest{ActionType: name, Config: config})
	healthy(t, err, planned.Diagnostics)
	stream, err := actions.InvokeAction(t.Context(), &tfprotov6.InvokeActionRequest{ActionType: name, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	for event := range stream.Events {
		if completed, ok := event.Type.(tfprotov6.CompletedInvokeActionEventType); ok {
			return told(completed.Diagnostics)
		}
	}
	t.Fatalf("%s did not end", name)
	return ""
}

// TestActions runs every action there is; the second run finds nothing to do
// or says that the object is gone.
func TestActions(t *testing.T) {
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token})
	reusable := api.SetupKeyRequestTypeReusable
	key, err := plane.Client.CreateSetupKey(t.Context(), api.SetupKeyRequest{Name: "workers", Type: &reusable})
	if err != nil {
		t.Fatal(err)
	}
	plane.SetupKey = key.Key
	peer := controlplanetest.NewMachine(t, plane).PeerID
	tried := map[string]bool{}
	run := func(name string, arguments map[string]any) string {
		tried[name] = true
		return s.invoke(t, name, arguments)
	}

	for range 2 {
		if said := run("wattle_revoke_setup_key", map[string]any{"setup_key_id": key.Id}); said != "" {
			t.Error(said)
		}
	}
	if now, err := plane.Client.GetSetupKey(t.Context(), key.Id); err != nil || !now.Revoked || now.Version != key.Version+1 && now.Version != key.Version+2 {
		t.Errorf("the key is %+v, %v", now, err)
	}
	if said := run("wattle_revoke_setup_key", map[string]any{"setup_key_id": "nosuch"}); !strings.Contains(said, "Cannot revoke setup key") {
		t.Errorf("a key that is not there: %q", said)
	}

	if said := run("wattle_remove_peer", map[string]any{"peer_id": peer}); said != "" {
		t.Error(said)
	}
	if _, err := plane.Client.GetPeer(t.Context(), peer); !sdk.IsNotFound(err) {
		t.Errorf("the peer after its removal: %v", err)
	}
	for name := range s.schemas.ActionSchemas {
		if !tried[name] {
			t.Errorf("%s has no test", name)
		}
	}
}

// TestActionWithoutArguments: what is known after the apply only runs then.
func TestActionWithoutArguments(t *testing.T) {
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": nil, "token": plane.Token})
	if said := s.invoke(t, "wattle_remove_peer", map[string]any{"peer_id": "x"}); !strings.Contains(said, "not configured yet") {
		t.Errorf("an action without a control plane says %q", said)
	}
}
