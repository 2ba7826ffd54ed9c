package firewall

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/claim"
)

// Undo removes what agents that were killed have left in the tables of the host.
// Their own tables stay while their interface does, so that nobody gets in
// meanwhile, and without one when keep says that an agent is about to start.
func Undo(keep bool) error {
	return undoing(func(conn *connection) error {
		names, err := openedFor(conn)
		if cannotHave(err) {
			return nil
		}
		faults := []error{err}
		var alone []string
		if !keep {
			alone, err = withoutInterface(conn)
			faults = append(faults, err)
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, alone)))) {
			faults = append(faults, undoFor(conn, name, slices.Contains(alone, name)))
		}
		return errors.Join(faults...)
	})
}

// UndoInterface removes what an agent that was killed has left for an interface
// that is not opened again: the next one has another name.
func UndoInterface(name string) error {
	return undoing(func(conn *connection) error {
		tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
		if cannotHave(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tables: %w", err)
		}
		stands := slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName(name) })
		return undoFor(conn, name, stands)
	})
}

// undoing works on a connection of its own; without nftables there is nothing to do.
func undoing(work func(*connection) error) error {
	conn, err := newConnection()
	if cannotHave(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(work(conn), conn.Close())
}

// cannotHave reports whether an error says that nothing was changed: by who may
// not look, or has no nftables.
func cannotHave(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// undoFor removes what was done for an interface, unless an agent has that.
func undoFor(conn *connection, name string, table bool) error {
	claimed, err := claim.Take("interface " + name)
	if _, taken := errors.AsType[claim.Taken](err); taken {
		return nil
	}
	if err != nil {
		return err
	}
	err = closeHost(conn, name)
	if table {
		err = errors.Join(err, removeTable(conn, name))
	}
	return errors.Join(err, claimed.Close())
}

// withoutInterface lists the interfaces that are gone while the table of their
// agent stands.
func withoutInterface(conn *connection) (names []string, err error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("read the chains: %w", err)
	}
	for _, chain := range chains {
		name, ours := interfaceOf(chain.Table)
		if !ours || chain.Name != chainIn+accepts {
			continue
		}
		if _, err := net.InterfaceByName(name); err != nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func removeTable(conn *connection, name string) error {
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(name)})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove the table %s: %w", tableName(name), err)
	}
	return nil
}
