package state

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

const crashFolder = "WATTLE_TEST_CRASH_FOLDER"

// TestCrashingWriter is the child of TestCrash: it writes from several goroutines
// and says the name of each group whose write was acknowledged, until it is
// killed.
func TestCrashingWriter(t *testing.T) {
	dir := os.Getenv(crashFolder)
	if dir == "" {
		t.Skip("only as a child of TestCrash")
	}
	s := open(t, dir)
	var owner auth.Principal
	for id, a := range s.accounts {
		owner = auth.System(id)
		owner.Name = fmt.Sprint(a.row.Serial)
	}
	var said sync.Mutex
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%s-%d-%d", owner.Name, worker, n)
				if _, err := s.CreateGroup(t.Context(), owner, api.GroupRequest{Name: name}); err != nil {
					t.Error(err)
					return
				}
				said.Lock()
				fmt.Println("kept", name)
				said.Unlock()
			}
		})
	}
	all.Wait()
}

func TestCrash(t *testing.T) {
	f := fresh(t)
	dir, accountID := f.dir, f.owner.AccountID
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]bool{}
	for round := range 3 {
		killWriter(t, dir, 40+round*25, acknowledged)
	}
	checkIntegrity(t, filepath.Join(dir, "control.db"))
	s := open(t, dir)
	names := map[string]bool{}
	for _, g := range must2(s.ListGroups(t.Context(), auth.System(accountID), api.ListGroupsParams{}))(t) {
		names[g.Name] = true
	}
	for name := range acknowledged {
		if !names[name] {
			t.Errorf("the acknowledged group %s is lost", name)
		}
	}
	err := s.store.Read(t.Context(), func(tx *store.Tx) error {
		last, _, err := store.AuditHead(t.Context(), tx, accountID)
		if want := s.accounts[accountID].row.Serial; last != want || int64(len(names)) != want {
			t.Errorf("%d audit events, serial %d, %d groups", last, want, len(names)) // the first event made All
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.VerifyAudit(t.Context(), accountID); err != nil {
		t.Fatal(err)
	}
	f.State = s
	if diff := cmp.Diff(f.reloaded(), look(t, s, accountID)); diff != "" {
		t.Fatal(diff)
	}
}

// killWriter starts the writer, reads n acknowledgements and kills it with the
// next writes under way.
func killWriter(t *testing.T, dir string, n int, acknowledged map[string]bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashingWriter$", "-test.v")
	child.Env = append(os.Environ(), crashFolder+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	read := func() bool {
		var name string
		if _, err := fmt.Sscanf(lines.Text(), "kept %s", &name); err != nil {
			return false
		}
		acknowledged[name] = true
		return true
	}
	for got := 0; got < n && lines.Scan(); {
		if read() {
			got++
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it said before the end counts too
		read()
	}
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait() // killed
	if len(acknowledged) < n {
		t.Fatalf("the writer ended after %d writes", len(acknowledged))
	}
}

func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // read only
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatal(verdict, err)
	}
}
