package conformance

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// TestServer runs every case against the server that WATTLE_CONFORMANCE
// describes, a JSON text with the fields of Server.
func TestServer(t *testing.T) {
	given := os.Getenv("WATTLE_CONFORMANCE")
	if given == "" {
		t.Skip("SKIPPED: WATTLE_CONFORMANCE names no server")
	}
	var s Server
	if err := json.Unmarshal([]byte(given), &s); err != nil {
		t.Fatal(err)
	}
	RunOn(t, s)
}

// TestUpgrade upgrades the state that WATTLE_CONFORMANCE_UPGRADE describes and
// looks for the texts and numbers that it must have afterwards.
func TestUpgrade(t *testing.T) {
	given := os.Getenv("WATTLE_CONFORMANCE_UPGRADE")
	if given == "" {
		t.Skip("SKIPPED: WATTLE_CONFORMANCE_UPGRADE gives no state")
	}
	var c struct {
		Type    string
		Version int64
		State   json.RawMessage
		Want    map[string]string // path, such as chapters["one"].tables: value
	}
	if err := json.Unmarshal([]byte(given), &c); err != nil {
		t.Fatal(err)
	}
	server := runtime.NewServer("test")()
	schemas, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.UpgradeResourceState(t.Context(), &tfprotov6.UpgradeResourceStateRequest{TypeName: c.Type, Version: c.Version, RawState: &tfprotov6.RawState{JSON: c.State}})
	if err != nil || len(resp.Diagnostics) > 0 {
		t.Fatalf("%v, %+v", err, resp.Diagnostics)
	}
	state, err := resp.UpgradedState.Unmarshal(schemas.ResourceSchemas[c.Type].ValueType())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = tftypes.Walk(state, func(at *tftypes.AttributePath, v tftypes.Value) (bool, error) {
		if v.IsKnown() && !v.IsNull() && (v.Type().Is(tftypes.String) || v.Type().Is(tftypes.Number) || v.Type().Is(tftypes.Bool)) {
			got[at.String()] = v.String()
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Want, got); diff != "" {
		t.Error(diff)
	}
}
