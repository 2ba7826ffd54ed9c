//go:build !linux

package netcheck

import "syscall"

const canForbidFragments = false

func forbidFragments(string, syscall.RawConn) error { return nil }
