//go:build !linux

package firewall

import (
	"errors"
	"log/slog"
)

// Open returns an error: the packet filter of this system is not used, a Filter
// between interface and device is.
func Open(*slog.Logger, string) (Enforcer, error) {
	return nil, errors.New("nftables exists on Linux only")
}
