//go:build linux

package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// natStory joins two machines at two kinds of access and waits for the path
// that RFC 4787 and RFC 5128 foretell; the first ping must not wait for it.
const natStory = `host server
access left %s
access right %s
host alice at left
host bob at right
serve server
join alice bob
eventually on alice ping -c 1 -W 1 $bob
eventually -out '%s' on alice wattle ping bob -n 1
eventually -out '%s' on bob wattle ping alice -n 1
`

// shapeStory is the same for two machines that a lab.Shape makes.
const shapeStory = `host server over %s
shape %s alice bob
serve server --listen :443 --public-url https://%s
join alice bob
eventually on alice ping -c 1 -W 1 $bob
eventually -out '%s' on alice wattle ping bob -n 1
eventually -out '%s' on bob wattle ping alice -n 1
`

const relayedPath = "relayed via .*(no address of the peer answers|UDP is blocked|both NATs)"

// TestEveryShape runs a story for each shape.
func TestEveryShape(t *testing.T) {
	dir := t.TempDir()
	for _, shape := range lab.Shapes {
		stack, name, path := "ipv4", "203.0.113.1", relayedPath
		if shape.Internet == lab.Both {
			stack, name = "both", "host1.example"
		}
		if shape.Direct {
			path = "direct via"
		}
		script := fmt.Appendf(nil, shapeStory, stack, shape.Name, name, path, path)
		if err := os.WriteFile(filepath.Join(dir, shape.Name+".txtar"), script, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runStories(t, dir)
}

// TestEveryPairOfNATs runs a story for each pair of kinds of access.
func TestEveryPairOfNATs(t *testing.T) {
	dir := t.TempDir()
	for i, left := range lab.Sides {
		for _, right := range lab.Sides[i:] {
			path := relayedPath
			if lab.Direct(left, right) {
				path = "direct via"
			}
			name := filepath.Join(dir, fmt.Sprintf("%s_meets_%s.txtar", left.Name, right.Name))
			if err := os.WriteFile(name, fmt.Appendf(nil, natStory, left.Name, right.Name, path, path), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runStories(t, dir)
}
