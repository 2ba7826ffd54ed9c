//go:build !linux

package firewall

import "errors"

// Open returns an error: the packet filter of this system is not used, a Filter
// between interface and device is.
func Open(Options) (Enforcer, error) {
	return nil, errors.New("nftables exists on Linux only")
}

// Undo does nothing: nothing was done.
func Undo(bool) error { return nil }

// UndoInterface does nothing: nothing was done.
func UndoInterface(string) error { return nil }
