package firewall

// Open returns the kernel's enforcer for the interface of a tunnel. It drops
// everything from the start, before the interface exists. When nftables cannot
// be used it returns an error, and the caller puts a Filter between interface
// and device.
func Open(o Options) (Enforcer, error) {
	kernel, err := NewKernel(o)
	if err != nil {
		return nil, err
	}
	return kernel, nil
}
