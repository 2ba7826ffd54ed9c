//go:build unix

package control

import "golang.org/x/sys/unix"

// kernelVersion returns the release that uname tells; empty when it tells none.
func kernelVersion() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
