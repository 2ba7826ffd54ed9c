//go:build !windows

package local

import "os"

// socketDir lets everybody reach the socket, whose own mode decides.
const socketDir = 0o755

// openFolder makes the folder of the socket.
func openFolder(dir string) error { return os.MkdirAll(dir, socketDir) }
