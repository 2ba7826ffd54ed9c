//go:build darwin || freebsd

package tunnel

import (
	"context"
	"os/exec"
	"runtime"

	"golang.zx2c4.com/wireguard/tun"
)

func newAddressing(name string, _ tun.Device, _ int) (addressing, error) {
	return ifconfigAddressing{
		name: name, pointToPoint: runtime.GOOS == "darwin", addresses: addressesOf,
		run: func(ctx context.Context, program string, args ...string) (string, error) {
			out, err := exec.CommandContext(ctx, "/sbin/"+program, args...).CombinedOutput() //nolint:gosec // fixed programs, addresses that were parsed
			return string(out), err
		},
	}, nil
}
