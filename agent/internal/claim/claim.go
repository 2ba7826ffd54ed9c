// Package claim keeps the agents of one host from using the same interface or table.
package claim

import (
	"fmt"
	"io"
)

// A Taken is the error when another agent holds what was claimed.
type Taken struct {
	Name string
}

func (t Taken) Error() string {
	return fmt.Sprintf("another wattle agent on this host uses the %s; stop it, or start this one with another --interface", t.Name)
}

// Take claims a name until it is closed or the process ends. The error is a
// Taken when another agent has it.
func Take(name string) (io.Closer, error) { return take(name) }
