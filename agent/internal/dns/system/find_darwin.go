package system

import "context"

// The places of macOS.
const (
	scutilProgram  = "/usr/sbin/scutil"
	resolverFolder = "/etc/resolver" // resolver(5)
)

// finders are the ways of macOS, which writes resolv.conf for old programs only.
var finders = []finder{{Scutil, func(ctx context.Context, o Options) (Setter, error) {
	return newMacOS(ctx, o, scutilProgram, resolverFolder)
}}}

// undo takes away what was set.
func undo(ctx context.Context, j record) error {
	if j.Kind == Scutil {
		return undoMacOS(ctx, scutilProgram, j)
	}
	return unknownKind(j)
}
