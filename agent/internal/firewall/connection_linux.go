package firewall

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A connection to nftables keeps its socket. The kernel closes a socket of
// netfilter only after it has freed what the last transaction removed, for which
// it waits until no processor uses that any more: 15 ms and more for each
// transaction, while whoever enrols waits.
type connection struct {
	*nftables.Conn
	buffer             int // bytes that are asked for, in each direction
	messages, elements int // that one transaction may hold, as far as the buffers that were given go
}

// What a transaction may hold. It is sent in one piece, and the kernel answers each
// message, and repeats each rule, before the first answer is read: both must fit
// the buffers of the socket.
const (
	usualBuffer   = 212992 // bytes that Linux gives without being asked (net.core.rmem_default)
	usualMessages = 64     // that fit it with all answers, the longest rules too
	usualElements = 1000   // of sets that fit it

	// askedBuffer, which Linux doubles, lets 5,000 rules and 78,000 elements change at
	// once. Only what is used of it costs memory. It takes CAP_NET_ADMIN over the
	// whole machine: in a container the limit of the host may be less.
	askedBuffer = 8 << 20
)

func newConnection() (*connection, error) {
	c := &connection{buffer: askedBuffer}
	if err := c.open(); err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

func (c *connection) open() error {
	given := 0
	opened, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(socket *netlink.Conn) (err error) {
		given, err = enlarge(socket, c.buffer)
		return err
	}))
	if err != nil {
		return err
	}
	c.Conn, c.messages, c.elements = opened, max(1, given*usualMessages/usualBuffer), max(usualElements, given*usualElements/usualBuffer)
	return nil
}

// enlarge asks for buffers of so many bytes and returns what the smaller one holds.
func enlarge(socket *netlink.Conn, bytes int) (given int, err error) {
	// Less than was asked for is enough to work with.
	_, _ = socket.SetReadBuffer(bytes), socket.SetWriteBuffer(bytes)
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var receive, send int
	var faults [2]error
	err = raw.Control(func(fd uintptr) {
		receive, faults[0] = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, faults[1] = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	})
	return min(receive, send), errors.Join(err, faults[0], faults[1])
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
	_ = c.open() // what it would say, the next operation says
	return err
}

// Close closes the socket. The connection can still be used, with one for each
// operation.
func (c *connection) Close() error { return c.CloseLasting() }
