package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

// maxElements is how many elements go into one message, whose length is told in 16
// bits. It is even: a range keeps its end.
const maxElements = 1000

// A Kernel enforces rules by nftables, in a table of its own:
//
//	input   --> interface? --> inbound: not to us: drop
//	                                    reply of a flow, error about one: accept
//	                                    TCP in its middle without a flow: drop
//	                                    --> inbound_monitors (count only) --> inbound_drops --> inbound_accepts --> drop
//	        --> from the network's range, not by the interface: drop
//	output  --> interface? --> outbound: the same with outbound_*
//	forward --> from the interface to itself: drop
//	        --> from the interface? --> carried: as inbound, with carried_*
//	        --> from the network's range, not by the interface: drop
//	        --> to the interface? --> opened: the same with opened_*
//	masquerade (only if asked for) --> from peers to such destinations: masquerade
//
// Two machines of one network cannot share a network namespace: what one sends
// to the other comes from the network's range by an interface that is not the
// tunnel's, and is dropped. Status warns of it.
//
// Watch finds what other programs do to the table, such as `nft flush ruleset`,
// and the next Set puts it back.
//
// Only the reply direction rides on connection tracking. Every packet of the
// original direction is judged, so a rule that goes takes running flows along;
// their tracking entries are deleted as well, so that nothing rides on.
type Kernel struct {
	logger *slog.Logger

	mu       sync.Mutex // guards all below and the order of transactions
	conn     *connection
	table    *nftables.Table
	chains   map[string]*nftables.Chain
	sets     map[string]*nftables.Set
	handles  map[string]*nftables.Rule // by key
	inForce  layout
	standing bool
	names    *learned
	keeps    bool     // the chains of KeepPaths stand
	judge    *ruleset // of the last flows that were cut
	fault    error    // of the last attempt to cut flows; nil when it succeeded
	repairs  int      // of what others did to the table

	// Of the tables of the host.
	opens     bool     // the tunnel is let through them
	stale     bool     // they have to be looked at
	carries   bool     // others are carried
	opened    []string // chains with rules of ours
	hostFault error

	past tallies // of rules in former forms
}

// NewKernel opens nftables and makes the table for an interface, which need not
// exist yet: from now on nothing passes it. The error says why the kernel cannot
// enforce rules, such as that the table is another program's.
func NewKernel(o Options) (*Kernel, error) {
	if o.Logger == nil || o.Interface == "" {
		return nil, errors.New("firewall: logger and interface are required")
	}
	conn, err := newConnection()
	if err != nil {
		return nil, err
	}
	k := &Kernel{logger: o.Logger, conn: conn, names: newLearned(), judge: &ruleset{}, past: newTallies(), opens: !o.KeepHostClosed, stale: true}
	if err := k.refuseForeign(tableName(o.Interface)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := k.build(frame{name: o.Interface}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return k, nil
}

// tableName is wattle for the usual interface, so that it is found by that
// name; an agent beside it has a table beside it.
func tableName(name string) string {
	if name == tunnelName {
		return "wattle"
	}
	return tablePrefix + name
}

// interfaceOf returns the interface of the agent whose table it is.
func interfaceOf(table *nftables.Table) (name string, ours bool) {
	if table.Family != nftables.TableFamilyINet {
		return "", false
	}
	if table.Name == tableName(tunnelName) {
		return tunnelName, true
	}
	return strings.CutPrefix(table.Name, tablePrefix)
}

const (
	tunnelName  = "wt0" // the usual interface
	tablePrefix = "wattle_"
)

// Set enforces c. The first call makes the table; one with another interface,
// address or range makes it anew in one step. After an error the former rules
// are in force.
func (k *Kernel) Set(_ context.Context, c Config) error {
	if c.Interface == "" {
		return errors.New("firewall: the name of the interface is required")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c = c.counting()
	// An unknown rule is refused before anything changes.
	wanted, err := newLayout(c, k.inForce)
	if err != nil {
		return err
	}
	k.names.keep(c.Routes)
	anew := !k.standing || k.inForce.frame != wanted.frame
	if anew || k.inForce.shape != wanted.shape {
		kept := func(key string) bool { _, stays := wanted.rules[key]; return stays && !anew }
		if err := k.remember(kept, c.Rules); err != nil {
			k.logger.Warn("counters of rules begin anew", "error", err)
		}
	}
	if anew {
		if err := k.build(wanted.frame); err != nil {
			return err
		}
	}
	if err := k.keepPaths(c.KeepPaths); err != nil {
		return err
	}
	k.openHost(wanted)
	step := diff(k.inForce, wanted)
	if step.empty() {
		k.inForce = wanted
		return nil
	}
	if err := k.apply(step, wanted); err != nil {
		// What is in force is not known any more: begin again from the frame,
		// which drops everything, at the next call.
		k.standing = false
		return err
	}
	k.inForce = wanted
	if !step.narrows(wanted) && k.fault == nil {
		return nil
	}
	if k.judge, err = compile(c, k.names, k.judge); err != nil {
		return err
	}
	// New packets are judged already. A flow that could not be cut lives on only
	// in its reply direction: a reason to warn, none to stop here.
	if k.fault = k.cut(wanted.frame, k.judge); k.fault != nil {
		k.logger.Error("flows not cut", "error", k.fault)
	}
	return nil
}

// Status says what is in force.
func (k *Kernel) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{Kind: "nftables", Rules: len(k.inForce.config.Rules), Opened: slices.Clone(k.opened)}
	met, unread := k.matched()
	s.Monitored, s.Matched = inOrder(met[watches]), inOrder(met[judges])
	blocked := ""
	if k.opens {
		blocked = legacyNote(k.inForce.frame.name, k.carries)
	}
	switch beside := k.beside(); {
	case k.fault != nil:
		s.Note = k.fault.Error()
	case k.hostFault != nil:
		s.Note = k.hostFault.Error()
	case blocked != "":
		s.Note = blocked
	case unread != nil:
		s.Note = unread.Error()
	case len(beside) > 0:
		s.Note = fmt.Sprintf("another agent holds %s here: two machines of one network cannot share a network namespace, each drops the other's packets as forged; machines of different networks can", strings.Join(beside, ", "))
	case k.repairs > 0 && k.table != nil:
		s.Note = fmt.Sprintf("another program has changed the table inet %s of the agent; it was put back %d times. Let that program leave it alone (`nft flush ruleset` removes the tables of everybody)", k.table.Name, k.repairs)
	}
	return s
}

// beside lists the interfaces of other agents in this network namespace. The
// caller holds mu.
func (k *Kernel) beside() []string {
	if k.table == nil {
		return nil
	}
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil // only a warning is lost
	}
	var names []string
	for _, table := range tables {
		name, other := interfaceOf(table)
		if !other || table.Name == k.table.Name {
			continue
		}
		// The table of an agent that was killed stays, its interface does not.
		if _, err := net.InterfaceByName(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// Close removes the table, after the interface is gone.
func (k *Kernel) Close() (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() { err = errors.Join(err, k.conn.Close()) }()
	if k.table == nil {
		return nil
	}
	k.conn.AddTable(k.table) // a table must exist to be deleted
	k.conn.DelTable(k.table)
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("remove the table %s: %w", k.table.Name, err)
	}
	k.table, k.standing = nil, false
	if k.opens {
		return closeHost(k.conn, k.inForce.frame.name)
	}
	return nil
}

// build puts the frame in the place of whatever stands under the table's name,
// in one transaction, so that there is no moment without the drop.
func (k *Kernel) build(f frame) error {
	k.table = &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(f.name)}
	k.conn.AddTable(k.table) // a table must exist to be deleted
	k.conn.DelTable(k.table)
	k.conn.AddTable(k.table)
	k.chains = map[string]*nftables.Chain{}
	k.sets = map[string]*nftables.Set{}
	k.handles = map[string]*nftables.Rule{}
	k.inForce, k.keeps = layout{shape: &shape{frame: f}}, false

	for _, base := range []struct {
		name string
		hook *nftables.ChainHook
	}{{chainInput, nftables.ChainHookInput}, {chainForward, nftables.ChainHookForward}, {chainOutput, nftables.ChainHookOutput}} {
		accept := nftables.ChainPolicyAccept // of what is not the tunnel's
		k.chains[base.name] = k.conn.AddChain(&nftables.Chain{
			Name: base.name, Table: k.table, Type: nftables.ChainTypeFilter,
			Hooknum: base.hook, Priority: nftables.ChainPriorityFilter, Policy: &accept,
		})
	}
	for _, name := range judging {
		for _, part := range []string{"", monitors, drops, accepts} {
			k.chains[name+part] = k.conn.AddChain(&nftables.Chain{Name: name + part, Table: k.table})
		}
	}
	for _, rule := range frameRules(f) {
		k.conn.AddRule(&nftables.Rule{Table: k.table, Chain: k.chains[rule.chain], Exprs: rule.exprs})
	}
	if err := k.conn.Flush(); err != nil {
		k.standing = false
		return fmt.Errorf("make the table %s: %w", k.table.Name, err)
	}
	k.standing = true
	return nil
}

// apply makes one step: in one transaction, unless there is so much that it needs
// more. Then what takes access away comes first, rules come after the sets they
// name are full, those that drop before those that accept, and drops go last.
func (k *Kernel) apply(step change, wanted layout) error {
	tx := &transaction{conn: k.conn}
	last, err := k.removeRules(tx, step.gone, func(chain string) bool { return !strings.HasSuffix(chain, drops) })
	if err != nil {
		return err
	}
	for name, gone := range step.remove {
		if err := k.elements(tx, name, gone, k.conn.SetDeleteElements); err != nil {
			return err
		}
	}
	for _, name := range step.newSets {
		if err := errors.Join(tx.room(0), k.addSet(name, wanted.sets[name])); err != nil {
			return err
		}
	}
	for name, added := range step.add {
		if err := k.elements(tx, name, added, k.conn.SetAddElements); err != nil {
			return err
		}
	}
	k.masquerading(wanted)
	for _, dropping := range []bool{true, false} {
		for _, key := range step.newRules {
			h := wanted.rules[key]
			if strings.HasSuffix(h.chain, drops) != dropping {
				continue
			}
			if err := errors.Join(tx.room(0), k.addRule(key, h)); err != nil {
				return err
			}
		}
	}
	if _, err := k.removeRules(tx, last, func(string) bool { return true }); err != nil {
		return err
	}
	for _, name := range step.goneSets {
		if err := tx.room(0); err != nil {
			return err
		}
		k.conn.DelSet(k.sets[name])
		delete(k.sets, name)
	}
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("change the table %s: %w", k.table.Name, err)
	}
	if len(step.newRules) == 0 {
		return nil
	}
	return k.readHandles()
}

// removeRules removes the rules of chains that now says yes to, and returns the
// keys of the others.
func (k *Kernel) removeRules(tx *transaction, keys []string, now func(chain string) bool) (others []string, err error) {
	for _, key := range keys {
		rule := k.handles[key]
		switch {
		case rule == nil:
			continue
		case !now(rule.Chain.Name):
			others = append(others, key)
			continue
		}
		if err := errors.Join(tx.room(0), k.conn.DelRule(rule)); err != nil {
			return nil, fmt.Errorf("remove a rule: %w", err)
		}
		delete(k.handles, key)
	}
	return others, nil
}

// A transaction is what was given to the connection since the last Flush.
type transaction struct {
	conn               *connection
	messages, elements int
}

// room makes room for one more message with so many elements: it carries out what
// there is when that would be too much.
func (t *transaction) room(elements int) error {
	t.messages++
	if t.elements += elements; t.messages <= t.conn.messages && t.elements <= t.conn.elements {
		return nil
	}
	t.messages, t.elements = 1, elements
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("carry out the first part of a change: %w", err)
	}
	return nil
}

// masquerading makes the chain of masquerading when there are rules for it, and
// removes it when there are none any more: it makes the kernel track every
// connection of the host.
func (k *Kernel) masquerading(wanted layout) {
	needed := false
	for _, rule := range wanted.rules {
		needed = needed || rule.chain == chainMasquerade
	}
	switch chain := k.chains[chainMasquerade]; {
	case needed && chain == nil:
		k.chains[chainMasquerade] = k.conn.AddChain(&nftables.Chain{
			Name: chainMasquerade, Table: k.table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
	case !needed && chain != nil:
		k.conn.DelChain(chain)
		delete(k.chains, chainMasquerade)
	}
}

func (k *Kernel) addSet(name string, wanted memberSet) error {
	kind := nftables.TypeIPAddr
	if wanted.ipv6 {
		kind = nftables.TypeIP6Addr
	}
	set := &nftables.Set{Table: k.table, Name: name, KeyType: kind, Interval: wanted.kind == ofRanges, HasTimeout: wanted.kind == ofLearned}
	var known []nftables.SetElement
	if wanted.kind == ofLearned {
		for addr, left := range k.names.remaining(routeOf(name), wanted.ipv6) {
			known = append(known, nftables.SetElement{Key: addr.AsSlice(), Timeout: left})
		}
	}
	if err := k.conn.AddSet(set, known); err != nil {
		return fmt.Errorf("make the set %s: %w", name, err)
	}
	k.sets[name] = set
	return nil
}

// elements puts a list through edit in chunks.
func (k *Kernel) elements(tx *transaction, name string, list elements, edit func(*nftables.Set, []nftables.SetElement) error) error {
	raw := make([]nftables.SetElement, 0, len(list.members)+2*len(list.ranges))
	for _, member := range list.members {
		raw = append(raw, nftables.SetElement{Key: member.AsSlice()})
	}
	for _, r := range list.ranges {
		raw = append(raw, nftables.SetElement{Key: r.Addr().AsSlice()})
		if after := lastOf(r).Next(); after.IsValid() { // an interval without an end reaches to the last address
			raw = append(raw, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	for chunk := range slices.Chunk(raw, maxElements) {
		if err := errors.Join(tx.room(len(chunk)), edit(k.sets[name], chunk)); err != nil {
			return fmt.Errorf("change the set %s: %w", name, err)
		}
	}
	return nil
}

func (k *Kernel) addRule(key string, h hostRule) error {
	exprs, err := k.matchRule(h)
	if err != nil {
		return err
	}
	k.conn.AddRule(&nftables.Rule{
		Table: k.table, Chain: k.chains[h.chain], Exprs: exprs,
		UserData: userdata.AppendString(nil, userdata.TypeComment, key),
	})
	return nil
}

// readHandles learns by which number the kernel calls each rule.
func (k *Kernel) readHandles() error {
	names := []string{chainMasquerade}
	for _, chain := range judging {
		names = append(names, chain+monitors, chain+drops, chain+accepts)
	}
	for _, name := range names {
		chain := k.chains[name]
		if chain == nil {
			continue
		}
		rules, err := k.conn.GetRules(k.table, chain)
		if err != nil {
			return fmt.Errorf("read the rules of %s: %w", name, err)
		}
		for _, rule := range rules {
			if key, ok := userdata.GetString(rule.UserData, userdata.TypeComment); ok {
				k.handles[key] = &nftables.Rule{Table: k.table, Chain: chain, Handle: rule.Handle}
			}
		}
	}
	return nil
}
