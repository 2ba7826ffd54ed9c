//go:build !linux

package tunnel

func (d *Device) openKernel(Config) error { return ErrUnsupported }

// RemoveFormer does nothing: interfaces of this system end with the process.
func RemoveFormer(string, PrivateKey) error { return nil }
