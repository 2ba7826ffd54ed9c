package control

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// osVersion returns the version of macOS, such as 14.3; empty when unknown.
func osVersion() string {
	version, err := unix.Sysctl("kern.osproductversion")
	if err != nil {
		return ""
	}
	return version
}

// executables lists what runs, as far as this user may see it.
func executables() ([]executable, error) {
	processes, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	var list []executable
	for _, each := range processes {
		// The number of arguments in four bytes, then the path and a zero.
		raw, err := unix.SysctlRaw("kern.procargs2", int(each.Proc.P_pid))
		if err != nil || len(raw) < 4 {
			continue // of the kernel, of another user, or it has ended
		}
		if path, _, ok := bytes.Cut(raw[4:], []byte{0}); ok && len(path) > 0 {
			list = append(list, executable{path: string(path)})
		}
	}
	return list, nil
}
