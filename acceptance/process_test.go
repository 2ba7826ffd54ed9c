//go:build linux

package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wattlenet/wattle/acceptance/lab"
)

const (
	// patience bounds each command and each wait for what has to come, so that
	// a story that hangs says where. It promises nothing: how fast the product
	// is says make bench, and a slow machine fails no story.
	patience = 2 * time.Minute
	// pace is the pause between two attempts of eventually.
	pace = 50 * time.Millisecond
)

// A process runs in the background of a story.
type process struct {
	make func() *exec.Cmd // for start and restart
	log  output

	command *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // how it ended; read after done
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (p *process) start() error {
	p.command, p.done, p.err = p.make(), make(chan struct{}), nil
	p.command.Stdout, p.command.Stderr = &p.log, &p.log
	if err := p.command.Start(); err != nil {
		close(p.done)
		return err
	}
	command, done := p.command, p.done
	go func() {
		p.err = command.Wait()
		close(done)
	}()
	return nil
}

// signal sends sig and waits until the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.command.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("it still runs %s after signal %s", patience, sig)
	}
}

// end stops the process, by force when it has to.
func (p *process) end() {
	_ = p.command.Process.Signal(syscall.SIGCONT) // one that was frozen hears nothing
	if p.signal(syscall.SIGTERM) != nil {
		_ = p.signal(syscall.SIGKILL) // the lab ends what is left
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tail is the end of the log.
func (p *process) tail() string {
	lines := strings.SplitAfter(p.log.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "")
}

// background starts args on a host under a name.
func (s *story) background(ts *testscript.TestScript, name, host string, args []string) *process {
	if old, taken := s.processes[name]; taken && old.running() {
		ts.Fatalf("a process named %s is running", name)
	}
	h := s.find(ts, host)
	p := &process{make: func() *exec.Cmd { return s.command(context.Background(), ts, h, args) }}
	s.processes[name] = p
	ts.Check(p.start())
	return p
}

// ready waits until check succeeds, as long as p runs.
func (s *story) ready(ts *testscript.TestScript, p *process, check func() error) {
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if !p.running() {
			ts.Fatalf("it ended: %v\n%s", p.err, p.tail())
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not ready after %s: %v\n%s", patience, err, p.tail())
		}
		time.Sleep(pace)
	}
}

func serve(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) > 0, "serve HOST [FLAG...]")
	h := s.find(ts, args[0])
	folder := filepath.Join(s.work, h.Name)
	ts.Check(os.MkdirAll(folder, 0o700))
	credentials := filepath.Join(folder, "credentials")
	listen, name := h.Addr.String(), h.Addr.String()
	if h.FQDN() != "" { // both versions of IP, one name
		listen, name = "", h.FQDN()
	}
	flags := []string{
		"wattle-server", "up",
		"--data-dir", filepath.Join(folder, "data"),
		"--listen", net.JoinHostPort(listen, "8443"), "--public-url", "https://" + net.JoinHostPort(name, "8443"),
		"--credentials", credentials, "--relay-listen", net.JoinHostPort(listen, "3478"),
	}
	if h.Addr.Is4() && h.FQDN() == "" {
		flags = append(flags, "--relay-address", h.Addr.String())
	}
	p := s.background(ts, h.Name, h.Name, append(flags, args[1:]...))
	s.server = h.Name
	s.ready(ts, p, func() error {
		var err error
		if s.profile, err = readProfile(credentials); err != nil {
			return err
		}
		_, _, err = s.call(context.Background(), "GET", "/api/instance", nil)
		return err
	})
	ts.Setenv("WATTLE_CREDENTIALS", credentials)
	ts.Setenv("URL", s.profile.URL)
	ts.Setenv("PIN", s.profile.Pin)
	ts.Setenv("KEY", filepath.Join(folder, "data", "setup-key"))
}

func daemon(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if i < 0 {
		i = len(args)
	}
	usage(ts, i > 0, "daemon HOST... [FLAG...]")
	for _, name := range args[:i] {
		s.runDaemon(ts, name, args[i:])
	}
}

func (s *story) runDaemon(ts *testscript.TestScript, name string, flags []string) {
	s.needTUN(ts)
	ts.Check(os.MkdirAll(filepath.Join(s.work, name), 0o700))
	p := s.background(ts, name, name, append([]string{"wattle", "daemon"}, flags...))
	s.ready(ts, p, func() error {
		_, err := os.Stat(filepath.Join(s.sockets, name))
		return err
	})
}

// needTUN skips a story about machines where the lab has no TUN devices.
func (s *story) needTUN(ts *testscript.TestScript) {
	device, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		lab.Count("stories about machines need /dev/net/tun")
		s.t.Skip("no TUN devices here: " + err.Error())
	}
	ts.Check(device.Close())
}

func join(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) > 0, "join HOST...")
	for _, name := range args {
		s.runDaemon(ts, name, nil)
		result := s.run(ts, name, []string{
			"wattle", "up", "--management-url", ts.Getenv("URL"), "--ca-pin", ts.Getenv("PIN"), "--setup-key-file", ts.Getenv("KEY"),
		})
		if result.err != nil {
			ts.Fatalf("wattle up on %s: %v\n%s%s", name, result.err, result.stderr, s.processes[name].tail())
		}
		ts.Setenv(name, s.overlayAddress(ts, name))
	}
}

// A result is what became of a command in the foreground.
type result struct {
	stdout, stderr string
	err            error
}

func (r result) code() int {
	if exit, ok := errors.AsType[*exec.ExitError](r.err); ok {
		return exit.ExitCode()
	}
	if r.err != nil {
		return -1
	}
	return 0
}

// run runs a command on a host and waits for it.
func (s *story) run(ts *testscript.TestScript, host string, args []string) result {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := s.command(ctx, ts, s.find(ts, host), args)
	c.Stdout, c.Stderr = &stdout, &stderr
	c.WaitDelay = time.Second
	err := c.Run()
	s.changed = time.Now()
	if ctx.Err() != nil {
		err = fmt.Errorf("it still ran after %s: %w", patience, err)
	}
	return result{stdout.String(), stderr.String(), err}
}

func on(s *story, ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) >= 2, "on HOST COMMAND...")
	s.judge(ts, neg, s.run(ts, args[0], args[1:]))
}

// judge shows a result to the script and ends the story when it is not the
// expected one.
func (s *story) judge(ts *testscript.TestScript, neg bool, r result) {
	s.show(ts, r)
	switch {
	case neg && r.err == nil:
		ts.Fatalf("unexpected success")
	case !neg && r.err != nil:
		ts.Fatalf("%v", r.err)
	}
}

func (s *story) show(ts *testscript.TestScript, r result) {
	_, _ = ts.Stdout().Write([]byte(r.stdout)) // buffers of testscript
	_, _ = ts.Stderr().Write([]byte(r.stderr))
}

func exits(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) >= 2, "exits CODE COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	r := s.perform(ts, args[1:])
	s.show(ts, r)
	if r.code() != want {
		ts.Fatalf("it exits with %d, want %d", r.code(), want)
	}
}

// perform runs one of the commands that eventually and exits accept.
func (s *story) perform(ts *testscript.TestScript, args []string) result {
	switch {
	case args[0] == "on" && len(args) >= 3:
		return s.run(ts, args[1], args[2:])
	case args[0] == "api" && len(args) >= 3:
		return s.request(ts, args[1:])
	default:
		ts.Fatalf("only on and api can be used here")
		return result{}
	}
}

func eventually(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	const form = "eventually [-out RE] [!] COMMAND..."
	pattern, fail := regexp.MustCompile(""), false
	if len(args) > 1 && args[0] == "-out" {
		pattern, args = regexp.MustCompile("(?m)"+args[1]), args[2:]
	}
	if len(args) > 0 && args[0] == "!" {
		fail, args = true, args[1:]
	}
	usage(ts, len(args) > 1, form)
	deadline := time.Now().Add(patience)
	for {
		r := s.perform(ts, args)
		if (r.err == nil && pattern.MatchString(r.stdout)) != fail {
			s.show(ts, r)
			return
		}
		if time.Now().After(deadline) {
			s.show(ts, r)
			ts.Fatalf("not within %s (last: %v)\n%s%s", patience, r.err, r.stdout, r.stderr)
		}
		time.Sleep(pace)
	}
}

func start(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) >= 4 && args[1] == "on", "start NAME on HOST COMMAND...")
	s.background(ts, args[0], args[2], args[3:])
}

// named returns a process of the story.
func (s *story) named(ts *testscript.TestScript, args []string) *process {
	usage(ts, len(args) == 1, "end|crash|freeze|thaw|restart NAME")
	p, ok := s.processes[args[0]]
	if !ok {
		ts.Fatalf("no process is named %s", args[0])
	}
	return p
}

func end(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.named(ts, args).signal(syscall.SIGTERM))
}

func crash(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.named(ts, args).signal(syscall.SIGKILL))
	s.changed = time.Now()
}

// freeze stops a process as a host stops its virtual machines: it does nothing and notices nothing.
func freeze(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.named(ts, args).command.Process.Signal(syscall.SIGSTOP))
	s.changed = time.Now()
}

func thaw(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	ts.Check(s.named(ts, args).command.Process.Signal(syscall.SIGCONT))
	s.changed = time.Now()
}

func restart(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	p := s.named(ts, args)
	if p.running() {
		ts.Fatalf("%s is running", args[0])
	}
	ts.Check(p.start())
	s.changed = time.Now()
	if args[0] == s.server {
		s.ready(ts, p, func() error {
			_, _, err := s.call(context.Background(), "GET", "/api/instance", nil)
			return err
		})
	}
}
