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
eventually -t 20s -out '%s' on alice wattle ping bob -n 1
eventually -t 20s -out '%s' on bob wattle ping alice -n 1
`

// TestEveryPairOfNATs runs a story for each pair of kinds of access.
func TestEveryPairOfNATs(t *testing.T) {
	dir := t.TempDir()
	for i, left := range lab.Sides {
		for _, right := range lab.Sides[i:] {
			path := "relayed via .*(no address of the peer answers|UDP is blocked|both NATs)"
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
