package namespacetest_test

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

func TestNetwork(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Errorf("user %d, want root", os.Getuid())
		}
		interfaces, err := net.Interfaces()
		if err != nil || len(interfaces) != 1 || interfaces[0].Flags&net.FlagUp != 0 {
			t.Errorf("interfaces %v, %v", interfaces, err)
		}
	})
}

func TestMounts(t *testing.T) {
	namespacetest.Run(t, namespacetest.Mounts, func(t *testing.T) {
		folder := t.TempDir()
		if err := unix.Mount("none", folder, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(folder, 0); err != nil {
			t.Fatal(err)
		}
	})
}
