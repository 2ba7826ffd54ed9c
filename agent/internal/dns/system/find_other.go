//go:build !linux && !darwin && !freebsd && !windows

package system

import (
	"context"
	"errors"
)

// finders are none: nothing is set on this system.
var finders = []finder{{Auto, func(context.Context, Options) (Setter, error) {
	return nil, errors.New("this agent knows no way to set the name servers of this operating system")
}}}

// undo has nothing to put back.
func undo(_ context.Context, j record) error { return unknownKind(j) }
