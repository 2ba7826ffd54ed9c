//go:build !linux && !darwin && !freebsd && !windows

package tunnel

import (
	"fmt"

	"golang.zx2c4.com/wireguard/tun"
)

func newAddressing(name string, _ tun.Device, _ int) (addressing, error) {
	return nil, fmt.Errorf("addresses of interface %s: %w; use --tunnel=netstack", name, ErrUnsupported)
}
