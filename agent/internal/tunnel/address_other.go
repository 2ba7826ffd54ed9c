//go:build !linux

package tunnel

import (
	"fmt"
	"net/netip"
)

// applyAddresses is not written for this system yet.
func applyAddresses(name string, _ []netip.Prefix) error {
	return fmt.Errorf("addresses of interface %s: %w; use --tunnel=netstack", name, ErrUnsupported)
}
