package firewall

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// repairInterval is the least time between two looks at what others have changed.
const repairInterval = time.Second

// tableOwned is the flag of a table that only the program which made it may
// change (NFT_TABLE_F_OWNER in linux/netfilter/nf_tables.h).
const tableOwned = 2

// Watch calls changed when the next Set has something to put right: another
// program has taken from our table or added to it, or the host's own firewall has
// changed. It looks at once, then at most once in repairInterval. What others
// do to the members of a set is not looked at.
func (k *Kernel) Watch(ctx context.Context, changed func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	events := make(chan struct{}, 1)
	var reader sync.WaitGroup
	var failure error
	reader.Go(func() {
		defer close(events)
		failure = follow(socket, events)
	})
	defer reader.Wait()
	defer socket.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, more := <-events:
			if !more {
				return fmt.Errorf("watch nftables: %w", failure)
			}
		}
		if k.look() {
			changed()
		}
		pause := time.NewTimer(repairInterval)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// follow tells of changes other than of the members of sets, which come with
// every peer, until the socket is closed.
func follow(socket *nl.NetlinkSocket, events chan<- struct{}) error {
	for {
		messages, _, err := socket.Receive()
		matters := errors.Is(err, unix.ENOBUFS) // some were lost
		if err != nil && !matters {
			return err
		}
		for _, m := range messages {
			matters = matters || concernsRules(m)
		}
		if matters {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}
}

func concernsRules(m syscall.NetlinkMessage) bool {
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_NEWGEN:
		return false
	}
	return true
}

// look reports whether the next Set has something to do though the Config is
// the same.
func (k *Kernel) look() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.table == nil {
		return false
	}
	if k.standing {
		if whole, err := k.whole(); err != nil || !whole {
			k.logger.Warn("another program has changed our table, it is put back", "table", k.table.Name, "error", err)
			k.standing = false
			k.repairs++
		}
	}
	stale, err := k.hostStale()
	if err != nil {
		k.logger.Warn("firewall of the host not read", "error", err)
	}
	k.stale = k.stale || stale
	return !k.standing || k.stale
}

// whole reports whether the table has the chains and the numbers of rules that
// it was given. The caller holds mu.
func (k *Kernel) whole() (bool, error) {
	want := map[string]int{}
	for name := range k.chains {
		want[name] = 0
	}
	for _, rule := range frameRules(k.inForce.frame) {
		want[rule.chain]++
	}
	for _, rule := range k.handles {
		want[rule.Chain.Name]++
	}
	if k.keeps {
		for _, chain := range pathChains {
			want[chain.Name] = len(pathRules(chain.Name, k.inForce.frame.name))
		}
	}
	chains, err := k.conn.ListChainsOfTableFamily(k.table.Family)
	if err != nil {
		return false, fmt.Errorf("read the chains: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name != k.table.Name {
			continue
		}
		n, ours := want[chain.Name]
		if !ours {
			return false, nil
		}
		delete(want, chain.Name)
		rules, err := k.conn.GetRules(k.table, chain)
		if err != nil {
			return false, fmt.Errorf("read the rules of %s: %w", chain.Name, err)
		}
		if len(rules) != n {
			return false, nil
		}
	}
	return len(want) == 0, nil
}

// flagsOf reads the flags of a table, which the library takes for a number of
// this machine though they are in the order of the network.
func flagsOf(table *nftables.Table) uint32 {
	return binaryutil.BigEndian.Uint32(binaryutil.NativeEndian.PutUint32(table.Flags))
}

// refuseForeign returns an error when a table of our name is somebody else's.
// One that is empty, or that an agent has left, is ours.
func (k *Kernel) refuseForeign(name string) error {
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("read the tables: %w", err)
	}
	for _, table := range tables {
		if table.Name == name && flagsOf(table)&tableOwned != 0 {
			return fmt.Errorf("the table inet %s is locked by a running program that owns it; stop that program", name)
		}
	}
	chains, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("read the chains: %w", err)
	}
	foreign := ""
	for _, chain := range chains {
		switch {
		case chain.Table.Name != name:
		case chain.Name == chainIn+accepts:
			return nil
		default:
			foreign = chain.Name
		}
	}
	if foreign != "" {
		return fmt.Errorf("the table inet %s is not of an agent, it has a chain %s; rename it, or name another interface with --interface", name, foreign)
	}
	return nil
}
