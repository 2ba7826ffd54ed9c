package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// winipAddressing uses the IP Helper of Windows, which makes the route of each
// network prefix with its address.
type winipAddressing struct {
	name string
	luid winipcfg.LUID
	mtu  uint32
}

func newAddressing(name string, device tun.Device, mtu int) (addressing, error) {
	native, ok := device.(*tun.NativeTun)
	if !ok {
		return nil, fmt.Errorf("interface %s: %w", name, ErrUnsupported)
	}
	return winipAddressing{name: name, luid: winipcfg.LUID(native.LUID()), mtu: uint32(mtu)}, nil
}

func (w winipAddressing) Addresses() ([]netip.Prefix, error) { return addressesOf(w.name) }

func (w winipAddressing) Add(_ context.Context, address netip.Prefix) error {
	if err := w.luid.AddIPAddress(address); err != nil && !errors.Is(err, windows.ERROR_OBJECT_ALREADY_EXISTS) {
		return err
	}
	return nil
}

func (w winipAddressing) Remove(_ context.Context, address netip.Prefix) error {
	if err := w.luid.DeleteIPAddress(address); err != nil && !errors.Is(err, windows.ERROR_NOT_FOUND) {
		return err
	}
	return nil
}

// Up sets what Windows keeps for each version of IP: the MTU, and that nobody
// asks whether an address is taken or a router is there, since nobody else is
// on the link. A version that is switched off on the machine is left out.
func (w winipAddressing) Up(context.Context) error {
	for _, version := range []winipcfg.AddressFamily{windows.AF_INET, windows.AF_INET6} {
		settings, err := w.luid.IPInterface(version)
		if errors.Is(err, windows.ERROR_NOT_FOUND) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the settings of %s: %w", w.name, err)
		}
		settings.NLMTU, settings.DadTransmits = w.mtu, 0
		settings.RouterDiscoveryBehavior = winipcfg.RouterDiscoveryDisabled
		if err := settings.Set(); err != nil {
			return fmt.Errorf("change the settings of %s: %w", w.name, err)
		}
	}
	return nil
}
