package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wattlenet/wattle/controlplane/internal/store/storetest"
)

// TestPostgres is what several instances and a server beside them add to the conformance suite.
func TestPostgres(t *testing.T) {
	server := storetest.Start(t)
	for name, test := range map[string]func(t *testing.T, server *storetest.Server, address string){
		"instances start at once": instancesStartAtOnce, "instances share an account": instancesShareAnAccount,
		"instances in each other's way": instancesInEachOthersWay, "connection lost between writes": lostBetweenWrites,
		"connection lost in a write": lostInAWrite, "connection lost before COMMIT": lostBeforeCommit, "connection lost after COMMIT": lostAfterCommit, "row held by others": rowHeldByOthers, "not writable": notWritable, "newer schema": newerSchema,
	} {
		t.Run(name, func(t *testing.T) { test(t, server, server.Fresh(t)) })
	}
	t.Run("no server", func(t *testing.T) {
		_, err := Open(t.Context(), postgresConfig("postgres://wattle:very-secret@127.0.0.1:1/nothing?connect_timeout=2"))
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "127.0.0.1/nothing") || strings.Contains(err.Error(), "very-secret") {
			t.Fatal(err)
		}
	})
}

func instancesStartAtOnce(t *testing.T, _ *storetest.Server, address string) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			s, err := Open(t.Context(), postgresConfig(address))
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func instancesShareAnAccount(t *testing.T, _ *storetest.Server, address string) {
	one, two := opened(t, postgresConfig(address)), opened(t, postgresConfig(address))
	a := someAccount("a")
	a.NextOrdinal = 0
	mustWrite(t, one, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			err := []*Store{one, two}[i%2].Write(t.Context(), func(tx *Tx) error { return advance(t.Context(), tx) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	advanced(t, two, 60)
}

// instancesInEachOthersWay has two instances lock two accounts in opposite order: the engine ends one of the two
// transactions, which must run again.
func instancesInEachOthersWay(t *testing.T, _ *storetest.Server, address string) {
	stores := []*Store{opened(t, postgresConfig(address+"&deadlock_timeout=100ms")), opened(t, postgresConfig(address+"&deadlock_timeout=100ms"))}
	a, b := someAccount("a"), someAccount("b")
	mustWrite(t, stores[0], func(ctx context.Context, tx *Tx) error {
		return errors.Join(Accounts.Insert(ctx, tx, &a), Accounts.Insert(ctx, tx, &b))
	})
	var met, all sync.WaitGroup
	met.Add(2)
	runs := make([]int, 2)
	for i, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		all.Go(func() {
			err := stores[i].Write(t.Context(), func(tx *Tx) error {
				runs[i]++
				if _, err := NextSerial(t.Context(), tx, order[0]); err != nil {
					return err
				}
				if runs[i] == 1 {
					met.Done()
					met.Wait()
				}
				_, err := NextSerial(t.Context(), tx, order[1])
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if runs[0]+runs[1] < 3 {
		t.Errorf("the writes ran %v times, so they were not in each other's way", runs)
	}
	a.Serial, b.Serial = 2, 2
	err := stores[0].Read(t.Context(), func(tx *Tx) error {
		same(t, []Account{a, b})(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// backend returns the process of the server that serves the writer.
func backend(t *testing.T, s *Store) (pid int) {
	t.Helper()
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return tx.one(ctx, "SELECT pg_backend_pid()", nil, &pid) })
	return pid
}

func lostBetweenWrites(t *testing.T, server *storetest.Server, address string) {
	s := opened(t, postgresConfig(address))
	server.Exec(t, fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", backend(t, s)))
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
}

func lostInAWrite(t *testing.T, server *storetest.Server, address string) {
	s := opened(t, postgresConfig(address))
	pid := backend(t, s)
	a := someAccount("a")
	err := s.Write(t.Context(), func(tx *Tx) error {
		err := Accounts.Insert(t.Context(), tx, &a)
		server.Exec(t, fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", pid))
		return err
	})
	if !errors.Is(err, ErrUnreachable) || !Unavailable(err) {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		same(t, []Account(nil))(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
}

// A wire stands between a store and the server and breaks at the next COMMIT once it is told to.
type wire struct {
	server net.Listener
	target [2]string
	armed  atomic.Bool
	// arrives says whether the server still gets the COMMIT at which the wire breaks.
	arrives bool
	all     sync.WaitGroup
}

// cut returns a wire to the server of an address, and the address at which a store finds the wire.
func cut(t *testing.T, address string, arrives bool) (w *wire, through string) {
	t.Helper()
	settings, err := pgconn.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	link, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w = &wire{server: listener, arrives: arrives}
	w.target[0], w.target[1] = pgconn.NetworkAddress(settings.Host, settings.Port)
	options := link.Query()
	options.Set("host", "127.0.0.1")
	options.Set("port", fmt.Sprint(listener.Addr().(*net.TCPAddr).Port))
	options.Set("sslmode", "disable")
	link.Host, link.RawQuery = "", options.Encode()
	w.all.Go(w.accept)
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		w.all.Wait()
	})
	return w, link.String()
}

func (w *wire) accept() {
	for {
		client, err := w.server.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(w.target[0], w.target[1])
		if err != nil {
			_ = client.Close()
			return
		}
		w.all.Go(func() { w.carry(client, server) })
	}
}

func (w *wire) carry(client, server net.Conn) {
	answers := make(chan struct{})
	var broken atomic.Bool
	go func() {
		defer close(answers)
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			if broken.Load() && n > 0 {
				return // the answer to COMMIT: it happened
			}
			if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
				_ = client.Close()
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			break
		}
		if bytes.Contains(buffer[:n], []byte("COMMIT\x00")) && w.armed.CompareAndSwap(true, false) {
			broken.Store(true)
			if w.arrives {
				_, _ = server.Write(buffer[:n])
				<-answers
			}
			break
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			break
		}
	}
	_, _ = client.Close(), server.Close()
	<-answers
}

func lostBeforeCommit(t *testing.T, _ *storetest.Server, address string) {
	w, through := cut(t, address, false)
	s := opened(t, postgresConfig(through))
	a := someAccount("a")
	insert := func(tx *Tx) error { return Accounts.Insert(t.Context(), tx, &a) }
	w.armed.Store(true)
	if err := s.Write(t.Context(), insert); !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "unknown") {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), insert); err != nil {
		t.Fatal("the store did not recover:", err)
	}
}

func lostAfterCommit(t *testing.T, _ *storetest.Server, address string) {
	w, through := cut(t, address, true)
	s := opened(t, postgresConfig(through))
	a := someAccount("a")
	w.armed.Store(true)
	applied := false
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		tx.After(func() { applied = true })
		return Accounts.Insert(ctx, tx, &a)
	})
	if !applied || w.armed.Load() {
		t.Fatal("the write was kept and memory does not know")
	}
	err := s.Read(t.Context(), func(tx *Tx) error {
		same(t, []Account{a})(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func rowHeldByOthers(t *testing.T, _ *storetest.Server, address string) {
	cfg := postgresConfig(address)
	cfg.BusyTimeout = 50 * time.Millisecond
	s := opened(t, cfg)
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is over
	other, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), "UPDATE account SET version = 2"); err != nil {
		t.Fatal(err)
	}
	next := func(tx *Tx) error { _, err := NextSerial(t.Context(), tx, "a"); return err }
	if err := s.Write(t.Context(), next); !errors.Is(err, ErrBusy) || !Unavailable(err) {
		t.Fatal(err)
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), next); err != nil {
		t.Fatal("the store did not recover:", err)
	}
}

func notWritable(t *testing.T, _ *storetest.Server, address string) {
	first := opened(t, postgresConfig(address))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s := opened(t, postgresConfig(address+"&default_transaction_read_only=on"))
	a := someAccount("a")
	if err := s.Write(t.Context(), func(tx *Tx) error { return Accounts.Insert(t.Context(), tx, &a) }); !errors.Is(err, ErrUnwritable) {
		t.Fatal(err)
	}
}

func newerSchema(t *testing.T, _ *storetest.Server, address string) {
	s := opened(t, postgresConfig(address))
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.exec(ctx, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)")
		return err
	})
	if _, err := Open(t.Context(), postgresConfig(address)); err == nil || !strings.Contains(err.Error(), "schema version 99 and this program knows versions up to ") {
		t.Fatal(err)
	}
}

func TestPostgresFaults(t *testing.T) {
	code := func(code string) error {
		return fmt.Errorf("exec: %w", &pgconn.PgError{Code: code, Message: "as the server says"})
	}
	for name, c := range map[string]struct{ err, want error }{
		"unique violation":      {code("23505"), ErrExists},
		"serialisation failure": {code("40001"), ErrOverlap},
		"deadlock":              {code("40P01"), ErrOverlap},
		"lock not available":    {code("55P03"), ErrBusy},
		"disk full":             {code("53100"), ErrFull},
		"out of memory":         {code("53200"), ErrDisk},
		"I/O error":             {code("58030"), ErrDisk},
		"too many connections":  {code("53300"), ErrUnreachable},
		"server stops":          {code("57P01"), ErrUnreachable},
		"server starts":         {code("57P03"), ErrUnreachable},
		"connection failure":    {code("08006"), ErrUnreachable},
		"hot standby":           {code("25006"), ErrUnwritable},
		"no privilege":          {code("42501"), ErrUnwritable},
		"index corrupted":       {code("XX002"), ErrCorrupt},
		"end of the stream":     {io.ErrUnexpectedEOF, ErrUnreachable},
		"dead connection":       {driver.ErrBadConn, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			got := classify(c.err)
			if !errors.Is(got, c.want) || !errors.Is(got, c.err) {
				t.Errorf("classified as %v", got)
			}
			if Unavailable(got) == errors.Is(c.want, ErrExists) {
				t.Error("whether it may pass is wrong:", got)
			}
		})
	}
	for name, err := range map[string]error{"foreign key": code("23503"), "syntax": code("42601"), "a deadline": context.DeadlineExceeded, "a rule": errors.New("refused")} {
		if got := classify(err); !errors.Is(got, err) || Unavailable(got) {
			t.Errorf("%s is classified as %v", name, got)
		}
	}
}
