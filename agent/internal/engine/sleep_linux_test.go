package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/internal/namespacetest"
)

// night is how many seconds the machine of TestMachineSleeps sleeps.
const night = "30"

// TestMachineSleeps suspends a whole machine to memory: a connection between two
// agents on it goes on afterwards, and both notice for how long it has slept.
// Only the emulated machine of `make test-kernel` may be suspended.
func TestMachineSleeps(t *testing.T) {
	if line, err := os.ReadFile("/proc/cmdline"); err != nil || !strings.Contains(string(line), "wattle.emulated") {
		t.Skip("SKIPPED: this machine stays awake; make test-kernel emulates one that may sleep")
	}
	namespacetest.Run(t, namespacetest.Network, sleeps)
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// sleeps are those that the agents have noticed.
func (j *journal) sleeps(t *testing.T) (slept []time.Duration) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, found := range regexp.MustCompile(`msg="machine has slept" for=(\S+)`).FindAllStringSubmatch(j.text.String(), -1) {
		duration, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		slept = append(slept, duration)
	}
	return slept
}

// asleep is for how long the machine was suspended since it was started.
func asleep(t *testing.T) time.Duration {
	t.Helper()
	var boot, awake unix.Timespec
	for clock, at := range map[int32]*unix.Timespec{unix.CLOCK_BOOTTIME: &boot, unix.CLOCK_MONOTONIC: &awake} {
		if err := unix.ClockGettime(clock, at); err != nil {
			t.Fatal(err)
		}
	}
	return time.Duration(boot.Nano() - awake.Nano())
}

// suspend returns when the alarm has woken the machine, with the time it slept.
func suspend(t *testing.T) time.Duration {
	t.Helper()
	before := asleep(t)
	for _, step := range [][2]string{{"/sys/class/rtc/rtc0/wakealarm", "+" + night}, {"/sys/power/state", "mem"}} {
		if err := os.WriteFile(step[0], []byte(step[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slept := asleep(t) - before
	t.Logf("the machine has slept for %s", slept)
	if slept < sleepLeast {
		t.Fatal("the machine was woken early")
	}
	return slept
}

func sleeps(t *testing.T) {
	street(t)
	plane := controlplanetest.New(t)
	var log journal
	defer func() { t.Logf("%s", log.text.String()) }()
	one, other := enrol(t, plane, &log, "one", "kernel"), enrol(t, plane, &log, "other", "netstack")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := one.Wait(ctx, local.WaitRequest{For: "ready"}); err != nil {
		t.Fatal(err)
	}
	inside, err := other.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), 7))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { _ = inside.Close() }()
	running.Go(func() { echo(inside) })
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(first(other), 7).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	exchange(t, connection, "good night")

	start := time.Now() // of the clock that stands still
	slept := suspend(t)
	exchange(t, connection, "good morning")
	noticed := log.sleeps(t)
	for ; len(noticed) < 2; noticed = log.sleeps(t) { // both agents, at their next look
		select {
		case <-ctx.Done():
			t.Fatalf("slept %s, noticed %v", slept, noticed)
		case <-time.After(sleepLook):
		}
	}
	exchange(t, connection, "good day")
	awake := time.Since(start)
	for _, n := range noticed {
		// An agent cannot tell when between two looks the sleep was.
		if n < slept-sleepLook-time.Second || n > slept+awake {
			t.Errorf("slept %s, noticed %v", slept, noticed)
		}
	}
	if len(noticed) != 2 {
		t.Errorf("slept once, two agents noticed %v", noticed)
	}
	if state := one.Status(ctx).State; state != "ready" {
		t.Errorf("state %s", state)
	}
}

// echo gives the first visitor back what it says.
func echo(listener net.Listener) {
	connection, err := listener.Accept()
	if err != nil {
		return
	}
	_, _ = io.Copy(connection, connection)
	_ = connection.Close()
}

func exchange(t *testing.T, connection net.Conn, text string) {
	t.Helper()
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len(text))
	if _, err := io.WriteString(connection, text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(connection, answer); err != nil || string(answer) != text {
		t.Fatalf("%q, %v", answer, err)
	}
}
