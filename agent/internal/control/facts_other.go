//go:build !unix

package control

// kernelVersion is not asked for on this system.
func kernelVersion() string { return "" }
