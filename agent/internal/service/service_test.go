package service

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// manager is a service manager that hears what is told.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	folder, err := os.MkdirTemp("", "n") //nolint:usetesting // the paths of sockets are limited, and that of TempDir is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	name := filepath.Join(folder, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestManagerHears(t *testing.T) {
	conn := manager(t)
	for want, tell := range map[string]func() error{"READY=1": Ready, "STOPPING=1": Stopping} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got := hear(t, conn); got != want {
			t.Errorf("the manager heard %q, want %q", got, want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := Ready(); err != nil {
		t.Error(err)
	}
	if err := Watch(t.Context(), func(context.Context) { t.Error("asked without a watchdog") }); err != nil {
		t.Error(err)
	}
}

// TestWatchdogHearsOnlyTheLiving: a daemon that does not answer is not reported alive.
func TestWatchdogHearsOnlyTheLiving(t *testing.T) {
	conn := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	asked, answer := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, func(ctx context.Context) {
			select {
			case asked <- struct{}{}:
				<-answer
			case <-ctx.Done():
			}
		})
	}()
	for range 3 {
		<-asked
		if err := conn.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 100)); err == nil {
			t.Fatalf("%d bytes were told before the daemon answered", n)
		}
		answer <- struct{}{}
		if got := hear(t, conn); got != "WATCHDOG=1" {
			t.Fatalf("the watchdog heard %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
