//go:build !linux

package claim

import "io"

// take claims nothing: here the system names the interfaces, and no tables of
// ours exist.
func take(string) (io.Closer, error) { return io.NopCloser(nil), nil }
