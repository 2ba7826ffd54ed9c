package lab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// insideVariable tells the second start of the binary that it is inside.
	insideVariable = "WATTLE_LAB"
	// exitUnusable is the exit code of a second start that could not furnish
	// its namespaces. No test has run then.
	exitUnusable = 97
)

// tools are the programs that build a lab, with the Debian package of each.
var tools = map[string]string{"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}

// outside says why the process is not in a lab; empty inside.
var outside = "lab.Main was not called by TestMain"

var skips struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

// Skip skips the test and counts the reason for the summary of Main.
func Skip(t testing.TB, reason string) {
	t.Helper()
	Count(reason)
	t.Skip(reason)
}

// Count notes a skipped test for the summary of Main.
func Count(reason string) {
	skips.mu.Lock()
	defer skips.mu.Unlock()
	if skips.counts == nil {
		skips.counts = make(map[string]int)
	}
	skips.counts[reason]++
}

// Main runs the tests inside a lab, or outside when no lab can be had, and
// returns the exit code of the test binary.
func Main(run func() int) int {
	if os.Getenv(insideVariable) != "" {
		if err := furnish(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			return exitUnusable
		}
		outside = ""
		return summarise(run())
	}
	if outside = findTools(); outside != "" {
		return summarise(run())
	}
	code, err := enter()
	if err != nil {
		outside = err.Error()
		return summarise(run())
	}
	return code
}

// summarise prints what was skipped, since a green run would hide it.
func summarise(code int) int {
	skips.mu.Lock()
	defer skips.mu.Unlock()
	for _, reason := range slices.Sorted(maps.Keys(skips.counts)) {
		fmt.Printf("SKIPPED %d: %s\n", skips.counts[reason], reason)
	}
	return code
}

// findTools names a tool that is missing; empty when none is. Users that are
// not root often have no sbin in their path.
func findTools() string {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return fmt.Sprintf("lab: %v", err)
	}
	for _, tool := range slices.Sorted(maps.Keys(tools)) {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("lab: %s is not installed; on Debian: apt install %s", tool, tools[tool])
		}
	}
	return ""
}

// enter starts this binary again in new namespaces and returns its exit code.
// It returns an error when the kernel refuses and no test has run.
func enter() (int, error) {
	const kinds = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	code, err := again(&syscall.SysProcAttr{
		Cloneflags:  kinds | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	})
	if err != nil && os.Geteuid() == 0 { // root needs no user namespace
		code, err = again(&syscall.SysProcAttr{Cloneflags: kinds, Pdeathsig: syscall.SIGKILL})
	}
	return code, err
}

func again(attr *syscall.SysProcAttr) (int, error) {
	// The kernel takes the end of this thread for the end of the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	// The lab ends with its process; there is nothing for a context to do.
	command := exec.Command(self, os.Args[1:]...)
	var told strings.Builder
	command.Stdin, command.Stdout = os.Stdin, os.Stdout
	command.Stderr = &tee{file: os.Stderr, copy: &told}
	command.Env = append(os.Environ(), insideVariable+"=inside")
	command.SysProcAttr = attr
	err = command.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() == exitUnusable:
		return 0, errors.New(strings.TrimSpace(told.String()))
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), nil
	default:
		return 0, fmt.Errorf("lab: namespaces cannot be made: %w", err)
	}
}

// A tee passes on what it is given and keeps the beginning of it.
type tee struct {
	file *os.File
	copy *strings.Builder
}

func (t *tee) Write(p []byte) (int, error) {
	if t.copy.Len() < 1<<10 {
		t.copy.Write(p)
	}
	return t.file.Write(p)
}

// furnish gives the new namespaces what the tools expect: a /proc of the new
// PID namespace, a private /run for ip-netns, and loopback.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("lab: mounts cannot be made private: %w", err)
	}
	// A container may hide parts of /proc, and then refuses a new one. The old
	// one serves as well, but for the numbers of processes.
	_ = unix.Mount("proc", "/proc", "proc", 0, "")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("lab: a private /run cannot be mounted: %w", err)
	}
	for _, folder := range []string{"/run/netns", "/run/uts"} {
		if err := os.Mkdir(folder, 0o755); err != nil { // as ip-netns makes it
			return fmt.Errorf("lab: %w", err)
		}
	}
	if err := os.WriteFile("/run/hosts", []byte(names()), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := unix.Mount("/run/hosts", "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("lab: a hosts file of its own cannot be mounted: %w", err)
	}
	if err := keepResolvConf(); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("lab: loopback does not come up: %w: %s", err, out)
	}
	return nil
}

// keepResolvConf makes sure that there is a resolv.conf which hosts can have
// their own in the place of: it may lead into the /run that was hidden.
func keepResolvConf() error {
	if _, err := os.Stat(resolvConf); err == nil {
		return nil
	}
	target, err := os.Readlink(resolvConf)
	if err != nil {
		return fmt.Errorf("%s is missing: %w", resolvConf, err)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(resolvConf), target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { // as systemd-resolved makes it
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}
