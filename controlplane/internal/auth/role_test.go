package auth

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/generated/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Which role may call which operation is a file that a reviewer reads: a change
// of the contract that opens a door shows there.
func TestRolesAndOperations(t *testing.T) {
	const golden = "testdata/roles.golden"
	roles := slices.Sorted(maps.Keys(api.RolePermissions))
	var table strings.Builder
	fmt.Fprintf(&table, "%-22s %-22s", "operation", "permission")
	for _, column := range append(slices.Clone(roles), "agent", "anybody") {
		fmt.Fprintf(&table, " %s", column)
	}
	table.WriteString("\n")
	for _, operation := range api.Operations {
		fmt.Fprintf(&table, "%-22s %-22s", operation.ID, operation.Permission)
		mark := func(column string, p Principal) {
			answer := "-"
			if Authorize(p, operation) == nil {
				answer = "x"
			}
			fmt.Fprintf(&table, " %-*s", len(column), answer)
		}
		for _, role := range roles {
			mark(role, Principal{Kind: KindUser, Role: role})
		}
		mark("agent", Principal{Kind: KindAgent, PeerID: "p"})
		mark("anybody", Principal{})
		table.WriteString("\n")
	}
	text := regexp.MustCompile(` +\n`).ReplaceAllString(table.String(), "\n")
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("roles changed (-want +got); look at each line, then run with -update:\n%s", diff)
	}
}
