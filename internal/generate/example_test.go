package main

import "testing"

// TestExampleValue: what the example of a request names must be set, and what
// it names as null must not.
func TestExampleValue(t *testing.T) {
	n := &noun{Example: map[string]any{"is_service_user": true, "email": nil, "name": "ci"}}
	for wire, want := range map[string]struct {
		value string
		given bool
	}{
		"is_service_user": {"true", true},
		"name":            {`"ci"`, true},
		"email":           {"", true},
		"role":            {"", false},
	} {
		if value, given := n.exampleValue(&attribute{Wire: wire}); value != want.value || given != want.given {
			t.Errorf("%s: %q, %t; want %q, %t", wire, value, given, want.value, want.given)
		}
	}
	if _, given := (&noun{}).exampleValue(&attribute{Wire: "name"}); given {
		t.Error("a noun without an example names a value")
	}
}
