package firewall

import "log/slog"

// Open returns the kernel's enforcer for a tunnel with an interface. When
// nftables cannot be used it returns an error, and the caller falls back to a
// Filter between interface and device.
func Open(logger *slog.Logger) (Enforcer, error) {
	kernel, err := NewKernel(logger)
	if err != nil {
		return nil, err
	}
	return kernel, nil
}
