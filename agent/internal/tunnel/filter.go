package tunnel

import (
	"os"

	"golang.zx2c4.com/wireguard/tun"
)

// A Filter judges each IP packet between the tunnel's interface and the
// device. Both methods are called from several goroutines at once, must not
// keep the packet, and return false to drop it.
type Filter interface {
	// Inbound judges a packet that a peer has sent and WireGuard has authenticated.
	Inbound(packet []byte) bool

	// Outbound judges a packet that this machine is about to send to a peer.
	Outbound(packet []byte) bool
}

// filtered puts a filter between an interface and the device.
type filtered struct {
	tun.Device
	filter Filter
}

// Filtered puts filter between an interface and the device. It returns device
// itself when filter is nil.
func Filtered(device tun.Device, filter Filter) tun.Device {
	if filter == nil {
		return device
	}
	return &filtered{Device: device, filter: filter}
}

func (f *filtered) File() *os.File { return f.Device.File() }

// Read drops what the filter refuses by leaving slots of size 0, which the
// device skips.
func (f *filtered) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := f.Device.Read(bufs, sizes, offset)
	for i := range n {
		if sizes[i] > 0 && !f.filter.Outbound(bufs[i][offset:offset+sizes[i]]) {
			sizes[i] = 0
		}
	}
	return n, err
}

func (f *filtered) Write(bufs [][]byte, offset int) (int, error) {
	accepted := bufs
	for i, buf := range bufs {
		if f.filter.Inbound(buf[offset:]) {
			if len(accepted) < len(bufs) {
				accepted = append(accepted, buf)
			}
			continue
		}
		if len(accepted) == len(bufs) {
			// Copied at the first refusal: the slice belongs to the device.
			accepted = append(make([][]byte, 0, len(bufs)), bufs[:i]...)
		}
	}
	if len(accepted) == 0 {
		return len(bufs), nil
	}
	if _, err := f.Device.Write(accepted, offset); err != nil {
		return 0, err
	}
	return len(bufs), nil
}
