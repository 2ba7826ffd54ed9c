// Package storetest gives tests a PostgreSQL of their own.
package storetest

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	// The driver under the name pgx.
	_ "github.com/jackc/pgx/v5/stdlib"
)

// Variable names a server that is there already: its value is an address such as postgres://user@host/database. The
// user must be allowed to create schemas; each is dropped at the end of its test.
const Variable = "WATTLE_TEST_POSTGRES"

// A Server is a running PostgreSQL.
type Server struct {
	address string
	process *os.Process // nil when the server is not ours
}

var schemas atomic.Int64

// Start returns the server that the environment names, else starts a private one from the binaries of this machine,
// and stops it at the end of the test. Where neither is possible the test is skipped with the reason.
func Start(t testing.TB) *Server {
	t.Helper()
	if address := os.Getenv(Variable); address != "" {
		return &Server{address: address}
	}
	initdb, postgres, ok := binaries()
	if !ok {
		t.Skipf("PostgreSQL: SKIPPED, %s is not set and initdb and postgres are not on this machine (Debian: apt-get install postgresql)", Variable)
	}
	owner, err := unprivileged()
	if err != nil {
		t.Skipf("PostgreSQL: SKIPPED, the server refuses to run as root: %v", err)
	}
	return start(t, initdb, postgres, owner)
}

// Fresh returns the address of an empty schema, which lives as long as the test.
func (s *Server) Fresh(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("wattle_test_%d_%d", os.Getpid(), schemas.Add(1))
	s.Exec(t, "CREATE SCHEMA "+name)
	t.Cleanup(func() { s.exec(context.WithoutCancel(t.Context()), t, "DROP SCHEMA "+name+" CASCADE") })
	if !strings.Contains(s.address, "://") {
		return s.address + " search_path=" + name
	}
	address, err := url.Parse(s.address)
	if err != nil {
		t.Fatalf("%s: %v", Variable, err)
	}
	options := address.Query()
	options.Set("search_path", name)
	address.RawQuery = options.Encode()
	return address.String()
}

// Exec runs a statement beside the connections of the test.
func (s *Server) Exec(t testing.TB, statement string) {
	t.Helper()
	s.exec(t.Context(), t, statement)
}

func (s *Server) exec(ctx context.Context, t testing.TB, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", s.address)
	if err == nil {
		_, err = db.ExecContext(ctx, statement)
	}
	if err != nil {
		t.Errorf("%s: %v", statement, err)
		return
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// binaries looks where the path and where Debian have them; the newest version wins.
func binaries() (initdb, postgres string, ok bool) {
	initdb, err := exec.LookPath("initdb")
	if err == nil {
		if postgres, err = exec.LookPath("postgres"); err == nil {
			return initdb, postgres, true
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is a constant and right
	slices.SortFunc(found, func(a, b string) int { return len(a)<<8 + strings.Compare(a, b) - len(b)<<8 })
	for _, initdb := range slices.Backward(found) {
		postgres := filepath.Join(filepath.Dir(initdb), "postgres")
		if _, err := os.Stat(postgres); err == nil {
			return initdb, postgres, true
		}
	}
	return "", "", false
}

func start(t testing.TB, initdb, postgres string, owner owner) *Server {
	t.Helper()
	// Not t.TempDir: another user could not enter it, and the path of a socket is short.
	dir, err := os.MkdirTemp("", "wattle-pg-") //nolint:usetesting // for the reason above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := owner.give(dir); err != nil {
		t.Skipf("PostgreSQL: SKIPPED, its folder cannot be given to another user: %v", err)
	}
	files := filepath.Join(dir, "data")
	prepare := exec.CommandContext(t.Context(), initdb, "-D", files, "-U", "wattle", "-A", "trust", "-E", "UTF8", "--no-sync") //nolint:gosec // a test runs what it found
	prepare.Dir = dir
	owner.become(prepare)
	if said, err := prepare.CombinedOutput(); err != nil {
		t.Skipf("PostgreSQL: SKIPPED, initdb failed: %v\n%s", err, said)
	}
	s := &Server{address: "postgres://wattle@/postgres?host=" + url.QueryEscape(dir)}
	serve := exec.Command(postgres, "-D", files, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "lc_messages=C") //nolint:gosec,noctx // it ends in Cleanup, after t.Context
	serve.Dir = dir
	owner.become(serve)
	s.serve(t, serve)
	return s
}

// serve runs the server until the end of the test and returns when it takes connections.
func (s *Server) serve(t testing.TB, command *exec.Cmd) {
	t.Helper()
	log, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// The server dies with the thread that started it, so this one must last.
		runtime.LockOSThread()
		defer close(ended)
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		t.Fatal("start PostgreSQL:", err)
	}
	s.process = command.Process
	t.Cleanup(func() {
		if err := s.process.Signal(os.Interrupt); err != nil { // fast shutdown
			t.Error(err)
		}
		<-ended
	})
	ready, lines := make(chan bool, 1), bufio.NewScanner(log)
	go func() {
		for lines.Scan() {
			if strings.Contains(lines.Text(), "ready to accept connections") {
				ready <- true
				break
			}
		}
		_, _ = io.Copy(io.Discard, log) // ends with the server
		close(ready)
	}()
	if !<-ready {
		t.Fatal("PostgreSQL ended before it was ready")
	}
}
