package firewall

import (
	"errors"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestConnectionAfterOverflow leaves answers unread in the socket.
func TestConnectionAfterOverflow(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, func(t *testing.T) {
		conn := &connection{buffer: 1 << 16}
		if err := conn.open(); err != nil {
			t.Skipf("SKIPPED: no nftables here: %v", err)
		}
		defer func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}()
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "ours"}
		for range 10 * conn.messages { // more answers than the socket holds
			conn.AddTable(table)
		}
		if err := conn.Flush(); !errors.Is(err, unix.ENOBUFS) {
			t.Fatalf("want the answers to overflow, got %v", err)
		}
		tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
		if err != nil || len(tables) != 1 {
			t.Fatalf("afterwards there are %d tables, error %v; want 1", len(tables), err)
		}
		conn.AddTable(table)
		chain := conn.AddChain(&nftables.Chain{Name: "first", Table: table})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: accept()})
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		rules, err := conn.GetRules(table, chain)
		if err != nil || len(rules) != 1 {
			t.Errorf("the chain has %d rules, error %v; want 1", len(rules), err)
		}
	})
}
