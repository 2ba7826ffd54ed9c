package local

import (
	"os"

	"github.com/wattlenet/wattle/internal/folder"
)

// openFolder makes the folder of the socket. This system does not tell who is
// at the other end of a socket, so a new folder is closed to everybody but
// administrators and the daemon's user: whoever may open the socket may change
// the connection. A folder that exists is left as it is.
func openFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return folder.Restrict(dir)
}
