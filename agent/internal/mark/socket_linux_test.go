package mark

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inside = "WATTLE_MARK_TEST_INSIDE"

// TestSocketBearsTheMark runs again in a namespace where marks need no root.
func TestSocketBearsTheMark(t *testing.T) {
	if os.Getenv(inside) != "" {
		socketBearsTheMark(t)
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSocketBearsTheMark$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := again.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		t.Fatalf("inside: %v\n%s", err, output)
	}
	if err != nil {
		t.Skipf("SKIPPED: no user and network namespaces here: %v", err)
	}
}

func socketBearsTheMark(t *testing.T) {
	config := net.ListenConfig{Control: Socket}
	socket, err := config.ListenPacket(t.Context(), "udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	raw, err := socket.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || uint32(got) != Value {
		t.Errorf("the mark is %#x (%v), want %#x", got, err, Value)
	}
}
