//go:build !windows

// Package folder closes folders to everybody but the daemon.
package folder

import "os"

// Restrict leaves a folder to its owner: mode 0700.
func Restrict(dir string) error { return os.Chmod(dir, 0o700) } //nolint:gosec // a folder needs the x
