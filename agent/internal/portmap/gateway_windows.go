package portmap

import (
	"errors"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

var errNoGateway = errors.New("there is no default route over IPv4")

// findGateway reads the gateways of the adapters that are up.
func findGateway() (Gateway, error) {
	size := uint32(16 << 10) // what the documentation advises to begin with
	for {
		buffer := make([]byte, size)
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buffer[0]))
		err := windows.GetAdaptersAddresses(windows.AF_INET, windows.GAA_FLAG_INCLUDE_GATEWAYS, 0, first, &size)
		if errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) {
			continue
		}
		if err != nil {
			return Gateway{}, err
		}
		return firstGateway(first)
	}
}

func firstGateway(adapter *windows.IpAdapterAddresses) (Gateway, error) {
	var best *windows.IpAdapterAddresses
	for ; adapter != nil; adapter = adapter.Next {
		if adapter.OperStatus == windows.IfOperStatusUp && adapter.FirstGatewayAddress != nil && (best == nil || adapter.Ipv4Metric < best.Ipv4Metric) {
			best = adapter
		}
	}
	if best == nil {
		return Gateway{}, errNoGateway
	}
	addr, ok := netip.AddrFromSlice(best.FirstGatewayAddress.Address.IP().To4())
	if !ok {
		return Gateway{}, errNoGateway
	}
	return towards(addr)
}
