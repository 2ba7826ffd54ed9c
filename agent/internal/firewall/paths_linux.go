package firewall

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// Chains that keep the path of what came in by another interface. The mark of a
// connection is put on its packets, and routes of ours take none that bear it:
//
//	paths_input, paths_forward --> new, not by the tunnel: mark the connection
//	paths_prerouting           --> of a marked connection: mark the packet
//	paths_output               --> the same, and the way is chosen again;
//	                               of a marked socket: mark the connection, so
//	                               that the answers pass a strict rp_filter
var pathChains = []nftables.Chain{
	{Name: "paths_input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput},
	{Name: "paths_forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward},
	{Name: "paths_prerouting", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting},
	{Name: "paths_output", Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput},
}

// keepPaths makes or removes the chains that keep paths.
func (k *Kernel) keepPaths(wanted bool) error {
	if k.keeps == wanted {
		return nil
	}
	for _, chain := range pathChains {
		chain.Table, chain.Priority = k.table, nftables.ChainPriorityMangle
		if !wanted {
			k.conn.DelChain(&chain)
			continue
		}
		k.conn.AddChain(&chain)
		for _, exprs := range pathRules(chain.Name, k.inForce.frame.name) {
			k.conn.AddRule(&nftables.Rule{Table: k.table, Chain: &chain, Exprs: exprs})
		}
	}
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("keep the paths of connections that come in: %w", err)
	}
	k.keeps = wanted
	return nil
}

func pathRules(chain, tunnel string) [][]expr.Any {
	fromElsewhere := notInterface(expr.MetaKeyIIFNAME, tunnel)
	switch chain {
	case "paths_input":
		return [][]expr.Any{join(fromElsewhere, notInterface(expr.MetaKeyIIFNAME, "lo"), state(expr.CtStateBitNEW), markConnection())}
	case "paths_forward":
		return [][]expr.Any{join(fromElsewhere, notInterface(expr.MetaKeyOIFNAME, tunnel), state(expr.CtStateBitNEW), markConnection())}
	case "paths_prerouting":
		return [][]expr.Any{join(fromElsewhere, markedConnection(), markPacket())}
	}
	return [][]expr.Any{
		join(markedPacket(), markConnection()),
		join(markedConnection(), markPacket()),
	}
}

func ours() []byte { return binaryutil.NativeEndian.PutUint32(mark.Value) }

// onlyMark keeps the bits of our mark in register 1 and compares them.
func onlyMark() []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mark.Mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ours()},
	}
}

// withMark puts our mark into register 1 and leaves the other bits.
func withMark() expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^mark.Mask), Xor: ours()}
}

func markedConnection() []expr.Any {
	return join([]expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}}, onlyMark())
}

func markedPacket() []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}}, onlyMark())
}

func markConnection() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, withMark(), &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}}
}

func markPacket() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, withMark(), &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true}}
}

// Learn says what names of a route mean. The elements stand in the kernel when
// it returns, so that the packet which follows the answer passes.
func (k *Kernel) Learn(route string, addrs []netip.Addr, life time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := map[bool][]nftables.SetElement{}
	known := false
	for _, ipv6 := range []bool{false, true} {
		known = known || k.sets[setName(route, ipv6)] != nil
	}
	if !known {
		return fmt.Errorf("the route %s has no rules", route)
	}
	for i, addr := range addrs {
		addrs[i] = addr.Unmap()
	}
	fresh := k.names.add(route, addrs, life)
	// What is known already is put anew for its new time: a set does not prolong
	// the life of an element, on kernels before 6.12.
	for _, addr := range addrs {
		list[addr.Is6()] = append(list[addr.Is6()], nftables.SetElement{Key: addr.AsSlice(), Timeout: life})
	}
	for ipv6, added := range list {
		set := k.sets[setName(route, ipv6)]
		if set == nil {
			continue
		}
		if err := k.putLearned(set, added, len(fresh) == len(addrs)); err != nil {
			return fmt.Errorf("let addresses of a name through: %w", err)
		}
	}
	return nil
}

func (k *Kernel) putLearned(set *nftables.Set, added []nftables.SetElement, fresh bool) error {
	if !fresh {
		gone := make([]nftables.SetElement, len(added))
		for i, e := range added {
			gone[i].Key = e.Key
		}
		// In one transaction; it fails as a whole when one has just ended.
		if err := k.conn.SetAddElements(set, added); err != nil {
			return err
		}
		if err := k.conn.SetDeleteElements(set, gone); err != nil {
			return err
		}
		if err := k.conn.SetAddElements(set, added); err != nil {
			return err
		}
		return k.conn.Flush()
	}
	if err := k.conn.SetAddElements(set, added); err != nil {
		return err
	}
	return k.conn.Flush()
}
