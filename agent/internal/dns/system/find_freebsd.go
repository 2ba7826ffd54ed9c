package system

import "context"

// finders are the ways of FreeBSD. Its base system has resolvconf(8), and
// whatever sets an address there hands its name servers to it.
var finders = []finder{{Resolvconf, findResolvconf}, {File, findFile}}

// undo puts back what was set in a manager on this boot.
func undo(ctx context.Context, j record) error {
	if j.Kind == Resolvconf {
		return undoResolvconf(ctx, j.Interface)
	}
	return unknownKind(j)
}
