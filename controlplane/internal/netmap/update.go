package netmap

import (
	"iter"
	"slices"
)

// An Update is what one batch of changes did to the maps of the account.
type Update struct {
	// Serial is the serial at which the changes were applied.
	Serial int64
	// Revokes says that some peer lost access, so the deltas must not wait for a coalescing window.
	Revokes bool

	e *Engine
	// logged are the classes with an entry at the serial, single the peers with a turn, removed those that are gone.
	logged  []*class
	single  []string
	removed []string
}

// Peers ranges over the ids of the peers whose map changed, removed peers among them, each at least once. It may be
// called at any time and from any goroutine.
func (u *Update) Peers() iter.Seq[string] {
	return slices.Values(u.peers())
}

// peers collects before the caller runs: it may call the engine.
func (u *Update) peers() []string {
	u.e.mu.RLock()
	defer u.e.mu.RUnlock()
	ids := slices.Concat(u.removed, u.single)
	for _, c := range u.logged {
		for ordinals := c.peers.Iterator(); ordinals.HasNext(); {
			if p := u.e.ordinals[ordinals.Next()]; p != nil { // a class from before a rebuild may hold peers that are gone
				ids = append(ids, p.ID)
			}
		}
	}
	return ids
}

// Empty reports whether no peer hears of the changes.
func (u *Update) Empty() bool { return len(u.logged)+len(u.single)+len(u.removed) == 0 }
