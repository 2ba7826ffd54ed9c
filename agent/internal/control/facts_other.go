//go:build !linux && !darwin && !windows

package control

import (
	"errors"
	"fmt"
)

// osVersion is not asked for on this system.
func osVersion() string { return "" }

// executables are not listed on this system, so that no program counts as running.
func executables() ([]executable, error) {
	return nil, fmt.Errorf("programs of this system are not looked at: %w", errors.ErrUnsupported)
}
