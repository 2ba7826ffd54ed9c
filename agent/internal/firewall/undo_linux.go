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
func Undo(keep bool) (err error) {
	conn, err := newConnection()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil // without nftables nothing was changed
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	names, err := openedFor(conn)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return nil // who may not look has changed nothing
	}
	faults := []error{err}
	var alone []string
	if !keep {
		alone, err = withoutInterface(conn)
		faults = append(faults, err)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, alone)))) {
		claimed, err := claim.Take("interface " + name)
		if _, taken := errors.AsType[claim.Taken](err); taken {
			continue // of an agent that runs
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		faults = append(faults, closeHost(conn, name))
		if slices.Contains(alone, name) {
			faults = append(faults, removeTable(conn, name))
		}
		faults = append(faults, claimed.Close())
	}
	return errors.Join(faults...)
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
