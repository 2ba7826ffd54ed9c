package conformance

import (
	"encoding/json"
	"os"
	"testing"
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
