package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// sizes prints the size of each stripped program.
func sizes(_ context.Context, c config) error {
	for _, p := range []struct{ figure, file string }{
		{"size_wattle_mib", "wattle"},
		{"size_wattle_server_mib", "wattle-server"},
		{"size_wattle_relay_mib", "wattle-relay"},
		{"size_provider_mib", "terraform-provider-wattle"},
	} {
		info, err := os.Stat(filepath.Join(c.bin, p.file))
		if err != nil {
			return fmt.Errorf("find a program (make build): %w", err)
		}
		figure(p.figure, float64(info.Size())/(1<<20), "MiB")
	}
	return nil
}
