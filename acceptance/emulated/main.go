// Command emulated runs a test program in an emulated machine with Debian's kernel, for what the kernel here lacks.
//
//	go run ./acceptance/emulated -package ./agent/internal/tunnel -run TestKernelWireGuard -modules wireguard,veth
//
// It needs qemu-system-x86, busybox-static and the file of a linux-image package
// of Debian (-image; it is fetched with apt-get when none is named). The machine has no disk and no network: an
// initramfs holds busybox, the modules, and the test program, which is its first process but one. A test knows by the
// word wattle.emulated on the kernel's command line that it may suspend the machine.
package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// passed is what the machine prints when the test has ended well.
const passed = "EMULATED MACHINE: PASSED"

func main() {
	var m machine
	flag.StringVar(&m.pkg, "package", "", "package whose test runs")
	flag.StringVar(&m.run, "run", "", "name of the test")
	flag.StringVar(&m.modules, "modules", "", "modules of the kernel to load, with commas between")
	flag.StringVar(&m.image, "image", "", "file of a linux-image package of Debian; empty fetches one")
	flag.DurationVar(&m.timeout, "timeout", 5*time.Minute, "how long the machine may run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := m.test(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "emulated:", err)
		os.Exit(1)
	}
}

// A machine is one run.
type machine struct {
	pkg, run, modules, image string
	timeout                  time.Duration
	folder                   string
}

func (m *machine) test(ctx context.Context) (err error) {
	if m.folder, err = os.MkdirTemp("", "emulated-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(m.folder)) }()
	kernel, modules, err := m.unpack(ctx)
	if err != nil {
		return err
	}
	program := filepath.Join(m.folder, "program")
	// The machine has no shared libraries.
	build := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags", "-linkmode external -extldflags -static", "-o", program, m.pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the test: %w\n%s", err, out)
	}
	initramfs := filepath.Join(m.folder, "initramfs")
	if err := m.pack(initramfs, program, modules); err != nil {
		return err
	}
	return m.boot(ctx, kernel, initramfs)
}

// unpack returns the kernel and the modules in the order of loading.
func (m *machine) unpack(ctx context.Context) (kernel string, modules []string, err error) {
	if m.image == "" {
		if m.image, err = fetch(ctx, m.folder); err != nil {
			return "", nil, err
		}
	}
	root := filepath.Join(m.folder, "image")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", m.image, root).CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("unpack %s: %w\n%s", m.image, err, out)
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", nil, fmt.Errorf("%d kernels in %s", len(kernels), m.image)
	}
	files := map[string]string{}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		name, module := strings.CutSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".ko")
		if err != nil || !module {
			return err
		}
		files[moduleName(name)] = path
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	for name := range strings.SplitSeq(m.modules, ",") {
		if modules, err = withNeeds(ctx, modules, files, moduleName(name)); err != nil {
			return "", nil, err
		}
	}
	return kernels[0], modules, nil
}

// fetch downloads the newest cloud kernel that apt knows.
func fetch(ctx context.Context, folder string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for a kernel (name one with -image): %w", err)
	}
	_, name, ok := strings.Cut(string(out), "Depends: ")
	if !ok {
		return "", errors.New("apt knows no linux-image-cloud-amd64; run apt-get update, or name a package with -image")
	}
	name, _, _ = strings.Cut(name, "\n")
	download := exec.CommandContext(ctx, "apt-get", "download", strings.TrimSpace(name))
	download.Dir = folder
	if out, err := download.CombinedOutput(); err != nil {
		return "", fmt.Errorf("download %s: %w\n%s", name, err, out)
	}
	found, err := filepath.Glob(filepath.Join(folder, "linux-image-*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d packages were downloaded", len(found))
	}
	return found[0], nil
}

// moduleName is the one form of a name in which - and _ are the same.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// withNeeds appends a module behind those that it needs. One that there is no
// file of is part of the kernel.
func withNeeds(ctx context.Context, order []string, files map[string]string, name string) ([]string, error) {
	path, ok := files[name]
	if !ok || slices.Contains(order, strings.TrimSuffix(path, ".xz")) {
		return order, nil
	}
	if strings.HasSuffix(path, ".xz") {
		if out, err := exec.CommandContext(ctx, "xz", "-d", "-k", path).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("decompress %s: %w\n%s", name, err, out)
		}
		path = strings.TrimSuffix(path, ".xz")
	}
	file, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", name, err)
	}
	defer func() { _ = file.Close() }() // only read
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s does not tell what it needs", name)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", name, err)
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		needs, ok := strings.CutPrefix(string(entry), "depends=")
		if !ok {
			// What is loaded when it is there, such as a faster cipher.
			needs, ok = strings.CutPrefix(string(entry), "softdep=pre: ")
			needs = strings.ReplaceAll(needs, " ", ",")
		}
		if !ok {
			continue
		}
		for need := range strings.SplitSeq(needs, ",") {
			if order, err = withNeeds(ctx, order, files, moduleName(need)); err != nil {
				return nil, err
			}
		}
	}
	return append(order, path), nil
}

// pack writes the initramfs.
func (m *machine) pack(path, program string, modules []string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("busybox is missing: apt-get install --no-install-recommends busybox-static: %w", err)
	}
	var script strings.Builder
	script.WriteString("#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t sysfs sysfs /sys\n/bin/busybox mount -t devtmpfs dev /dev\n")
	files := map[string]string{"bin/busybox": busybox, "program": program}
	for i, module := range modules {
		name := fmt.Sprintf("modules/%03d.ko", i)
		files[name] = module
		fmt.Fprintf(&script, "/bin/busybox insmod /%s || echo cannot load %s\n", name, filepath.Base(module))
	}
	fmt.Fprintf(&script, "/program -test.v -test.run '^%s$' && echo '%s'\n/bin/busybox poweroff -f\n", m.run, passed)
	var out bytes.Buffer
	archive := newc{to: &out}
	for _, folder := range []string{"bin", "modules", "proc", "sys", "dev", "tmp"} {
		archive.add(folder, 0o40755, nil)
	}
	archive.add("init", 0o100755, []byte(script.String()))
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		archive.add(name, 0o100755, content)
	}
	archive.add("TRAILER!!!", 0, nil)
	return os.WriteFile(path, out.Bytes(), 0o600)
}

// newc writes the archive that a kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst of Linux).
type newc struct {
	to    *bytes.Buffer
	inode int
}

func (a *newc) add(name string, mode int, content []byte) {
	a.inode++
	fmt.Fprintf(a.to, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.to.Write(content)
	a.pad()
}

func (a *newc) pad() {
	for a.to.Len()%4 != 0 {
		a.to.WriteByte(0)
	}
}

// boot runs the machine and returns an error unless the test has ended well.
func (m *machine) boot(ctx context.Context, kernel, initramfs string) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	// Emulated in software: machines for builds have no nested virtualisation.
	emulator := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-nographic", "-no-reboot",
		"-nic", "none", "-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 random.trust_cpu=on wattle.emulated")
	var log bytes.Buffer
	emulator.Stdout, emulator.Stderr = io.MultiWriter(os.Stdout, &log), os.Stderr
	if err := emulator.Run(); err != nil {
		return fmt.Errorf("run the machine (qemu-system-x86 is needed: apt-get install --no-install-recommends qemu-system-x86): %w", err)
	}
	if !strings.Contains(log.String(), passed) || strings.Contains(log.String(), "--- SKIP") {
		return errors.New("the test did not pass")
	}
	return nil
}
