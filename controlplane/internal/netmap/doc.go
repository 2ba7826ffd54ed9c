// Package netmap computes what each peer of an account must know: it compiles groups and policies into sets and rules,
// and turns one committed change into one delta that all peers concerned share.
//
// The package is pure: values go in, values come out; it reads no store, no clock and no network.
//
//	state (commits) ── Change ──> Engine ── Update ──> session (wakes the streams that are concerned)
//	                                 │
//	                                 ├── class: all peers that stand in the same groups; they share one view and one log
//	                                 │     view: rules ──> sets ──> peers          log: serial, ops, digest
//	                                 └── peer:  its own entry, its own log (self, moves between classes)
//
// A peer learns of the sets on the opposite side of the rules that apply to it, and of nothing else:
//
//	rule "web -> db"     a peer of web holds the set db, direction out
//	                     a peer of db holds the set web, direction in
//
// An accept counts where no drop of all protocols covers the pair. Such drops are compiled away: the sets of the accept
// rules are sent without the peers that they hide. Other drops travel as rules, cut down to peers that are visible, and so
// do rules that judge nothing: those that monitor, and those whose time has not come.
package netmap
