package netmap

import "iter"

// An Update is what one batch of changes did to the maps of the account.
type Update struct {
	// Serial is the serial at which the changes were applied.
	Serial int64
	// Revokes says that some peer lost access, so the deltas must not wait for a coalescing window.
	Revokes bool
}

// Peers ranges over the ids of the peers whose map changed, removed peers among them, each at least once.
func (u *Update) Peers() iter.Seq[string] {
	return func(func(string) bool) {}
}
