package firewall

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// A connection to nftables keeps its socket. The kernel closes a socket of
// netfilter only after it has freed what the last transaction removed, for which
// it waits until no processor uses that any more: 15 ms and more for each
// transaction, while whoever enrols waits.
type connection struct{ *nftables.Conn }

func newConnection() (*connection, error) {
	opened, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &connection{opened}, nil
}

// Flush carries out what was put into the transaction.
func (c *connection) Flush() error { return c.settled(c.Conn.Flush()) }

// ListTablesOfFamily reads the tables of a family.
func (c *connection) ListTablesOfFamily(family nftables.TableFamily) ([]*nftables.Table, error) {
	tables, err := c.Conn.ListTablesOfFamily(family)
	return tables, c.settled(err)
}

// ListChains reads all chains.
func (c *connection) ListChains() ([]*nftables.Chain, error) {
	chains, err := c.Conn.ListChains()
	return chains, c.settled(err)
}

// ListChainsOfTableFamily reads the chains of a family.
func (c *connection) ListChainsOfTableFamily(family nftables.TableFamily) ([]*nftables.Chain, error) {
	chains, err := c.Conn.ListChainsOfTableFamily(family)
	return chains, c.settled(err)
}

// GetRules reads the rules of a chain.
func (c *connection) GetRules(table *nftables.Table, chain *nftables.Chain) ([]*nftables.Rule, error) {
	rules, err := c.Conn.GetRules(table, chain)
	return rules, c.settled(err)
}

// settled opens another socket after an error: answers that nobody has read would
// be taken for those to the next request. Where that fails each operation has a
// socket of its own.
func (c *connection) settled(err error) error {
	if err == nil {
		return nil
	}
	err = errors.Join(err, c.CloseLasting())
	if next, failure := nftables.New(nftables.AsLasting()); failure == nil {
		c.Conn = next
	}
	return err
}

// Close closes the socket. The connection can still be used, with one for each
// operation.
func (c *connection) Close() error { return c.CloseLasting() }
