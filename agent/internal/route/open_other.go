//go:build !linux

package route

import (
	"fmt"
	"runtime"
)

// Open returns a Host that leaves the routes of this system alone and says so when it is told of some.
func Open(Options) (Host, error) {
	return &Unable{reason: fmt.Sprintf("routes are not supported on %s yet: destinations outside of the network are not reached from here, and nothing is carried for others", runtime.GOOS)}, nil
}

// Undo does nothing: nothing was done.
func Undo(Options) error { return nil }

// LeftClosed reports that nothing was: nothing is led.
func LeftClosed() bool { return false }
