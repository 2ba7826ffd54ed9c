//go:build !linux

package tunnel

func (d *Device) openKernel(Config) error { return ErrUnsupported }
