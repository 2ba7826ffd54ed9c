package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// The firewall of the host drops what it does not know, and a drop in any table
// is final. So a chain of the host that drops gets a rule of ours at its top,
// beside its own ones, which lets the tunnel's packets through to our table:
//
//	input    --> iifname wt0 accept
//	forward  --> iifname wt0 accept, oifname wt0 accept   (while others are carried)
//
// The comment of the rule tells whose it is, so that it is found and removed
// without a note elsewhere.

// opening begins the comment of a rule of ours in a table of the host; the name
// of the interface follows.
const opening = "wattle lets through "

// foreign is a chain of the host that packets of the tunnel pass.
type foreign struct {
	chain *nftables.Chain
	drops bool
	ours  []*nftables.Rule // of our interface
}

func (f foreign) String() string {
	families := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
	return families[f.chain.Table.Family] + " " + f.chain.Table.Name + " " + f.chain.Name
}

// directions are the keys whose interface is to be let through.
func (f foreign) directions(carries bool) []expr.MetaKey {
	switch {
	case !f.drops:
		return nil
	case *f.chain.Hooknum == *nftables.ChainHookInput:
		return []expr.MetaKey{expr.MetaKeyIIFNAME}
	case carries:
		return []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}
	}
	return nil
}

// hostChains reads the chains of the host that packets of the tunnel pass. An
// error leaves out the chain that it names.
func hostChains(conn *connection, name string) (list []foreign, err error) {
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("read the chains of the host: %w", err)
	}
	var faults []error
	for _, chain := range chains {
		family := chain.Table.Family
		_, own := interfaceOf(chain.Table)
		if family != nftables.TableFamilyIPv4 && family != nftables.TableFamilyIPv6 && family != nftables.TableFamilyINet ||
			chain.Hooknum == nil || chain.Type != nftables.ChainTypeFilter ||
			*chain.Hooknum != *nftables.ChainHookInput && *chain.Hooknum != *nftables.ChainHookForward || own {
			continue
		}
		found := foreign{chain: chain, drops: chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			faults = append(faults, fmt.Errorf("read the chain %s: %w", found, err))
			continue
		}
		for _, rule := range rules {
			if comment, _ := userdata.GetString(rule.UserData, userdata.TypeComment); comment == opening+name {
				found.ours = append(found.ours, rule)
				continue
			}
			found.drops = found.drops || dropsAll(rule)
		}
		list = append(list, found)
	}
	return list, errors.Join(faults...)
}

// dropsAll reports whether a rule drops whatever comes to it.
func dropsAll(rule *nftables.Rule) bool {
	ends := false
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			ends = true
		case *expr.Verdict:
			ends = e.Kind == expr.VerdictDrop
		default:
			return false
		}
	}
	return ends
}

// hostStale reports whether a chain of the host lacks a rule of ours, or has one
// too many. The caller holds mu.
func (k *Kernel) hostStale() (bool, error) {
	if !k.opens {
		return false, nil
	}
	chains, err := hostChains(k.conn, k.inForce.frame.name)
	return slices.ContainsFunc(chains, func(f foreign) bool {
		return len(f.ours) != len(f.directions(k.carries))
	}), err
}

// openHost lets the tunnel through the chains of the host that drop. What cannot
// be told is told in the status, and tried again when something has changed. The
// caller holds mu.
func (k *Kernel) openHost(wanted layout) {
	carries := wanted.carries()
	if !k.opens || !k.stale && carries == k.carries {
		return
	}
	k.carries, k.stale, k.opened = carries, false, nil
	chains, err := hostChains(k.conn, wanted.frame.name)
	faults := []error{err}
	for _, f := range chains {
		keys := f.directions(carries)
		if len(f.ours) != len(keys) {
			if err := k.reopen(f, keys, wanted.frame.name); err != nil {
				faults = append(faults, fmt.Errorf("the chain %s of this host drops what comes by %s, and cannot be changed: %w; let the interface through in it", f, wanted.frame.name, err))
				continue
			}
		}
		if len(keys) > 0 {
			k.opened = append(k.opened, f.String())
		}
	}
	k.hostFault = errors.Join(faults...)
}

// reopen puts rules for keys in the place of those that a chain has, in one
// transaction.
func (k *Kernel) reopen(f foreign, keys []expr.MetaKey, name string) error {
	for _, rule := range f.ours {
		if err := k.conn.DelRule(rule); err != nil {
			return err
		}
	}
	for _, key := range keys {
		k.conn.InsertRule(&nftables.Rule{
			Table: f.chain.Table, Chain: f.chain, Exprs: join(onInterface(key, name), counted(), accept()),
			UserData: userdata.AppendString(nil, userdata.TypeComment, opening+name),
		})
	}
	return k.conn.Flush()
}

// closeHost removes the rules that chains of the host have for an interface.
func closeHost(conn *connection, name string) error {
	chains, err := hostChains(conn, name)
	faults := []error{err}
	for _, f := range chains {
		for _, rule := range f.ours {
			if err := conn.DelRule(rule); err != nil {
				return err
			}
		}
		if len(f.ours) > 0 {
			if err := conn.Flush(); err != nil {
				faults = append(faults, fmt.Errorf("close the chain %s of the host: %w", f, err))
			}
		}
	}
	return errors.Join(faults...)
}

// openedFor lists the interfaces that chains of the host let through for us.
func openedFor(conn *connection) (names []string, err error) {
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("read the chains of the host: %w", err)
	}
	for _, chain := range chains {
		if chain.Hooknum == nil {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return names, fmt.Errorf("read the rules of %s: %w", chain.Name, err)
		}
		for _, rule := range rules {
			comment, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
			if name, found := strings.CutPrefix(comment, opening); found && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}
