package system

import "context"

// finders are the ways of Windows.
var finders = []finder{{NRPT, func(_ context.Context, o Options) (Setter, error) {
	return newNRPT(o, hostRegistry{}, hostAdapters{})
}}}

// undo takes away what was set.
func undo(_ context.Context, j record) error {
	if j.Kind == NRPT {
		return undoNRPT(hostRegistry{}, hostAdapters{}, j)
	}
	return unknownKind(j)
}
