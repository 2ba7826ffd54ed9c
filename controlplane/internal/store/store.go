// Package store keeps desired state in SQL.
//
//	callers      Write(fn)  Write(fn)  Write(fn)          Read(fn)
//	                 \         |         /                   |
//	queue             [ fn | fn | fn | ... ]            reader pool
//	                           |
//	writer       BEGIN  SAVEPOINT fn RELEASE  ...  COMMIT     one fsync for all of them
//	                           |
//	applier      the After functions of each write, in commit order; then the callers are answered
//
// There is one writer. Writes that arrive while a transaction is on its way to
// the disk share the next one, so that durable writes per second are not bound
// to the time of one fsync; a transaction waits a moment for those that
// shared the last one. Each write stands in a savepoint of its own: it happens
// whole or not at all, whatever its neighbours do.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the writer.
const (
	// batchLimit bounds how many writes share a transaction, and with it how
	// long the first of them waits for the last.
	batchLimit = 128

	// patienceLimit bounds how long a transaction waits for the writers that
	// shared the last one: the time in which ten callers on a small machine are
	// answered and ask again.
	patienceLimit = 2 * time.Millisecond

	// queueLimit bounds how many writes wait; more callers wait for a place.
	queueLimit = 1024

	// attempts bounds how often a batch is tried when other instances get in its
	// way, or when the connection was found dead before anything happened.
	attempts = 6

	// firstPause is half of the time before the second attempt; it doubles with
	// each: all pauses together take about a quarter of a second.
	firstPause = 4 * time.Millisecond

	// connectTimeout bounds the wait for a database server, where the address does not.
	connectTimeout = 5 * time.Second
)

// A Config says which database to open.
type Config struct {
	// Path is the SQLite file. Its folder must exist. Required unless Postgres is given.
	Path string

	// Postgres is the address of a PostgreSQL database, as a URL or in the form
	// key=value (RFC 3986; libpq's connection strings). Empty means SQLite.
	Postgres string

	// BusyTimeout is how long to wait for another process that holds the
	// database or a row of it. Zero means 5 s.
	BusyTimeout time.Duration

	// Readers is the number of reading connections. Zero means 4.
	Readers int

	// Logger is required.
	Logger *slog.Logger
}

// name says which database is meant, without secrets.
func (c Config) name() string {
	if c.Postgres != "" {
		return postgresName(c.Postgres)
	}
	return c.Path
}

// A Store is an open database.
type Store struct {
	dialect dialect
	logger  *slog.Logger
	release func() error // gives the lock on the file back; nil where there is no file

	writer  *sql.DB
	readers *sql.DB

	queue   chan *write
	waiting atomic.Int64 // callers of Write that have no answer yet
	closing sync.RWMutex // guards closed; held for reading while a write is queued
	closed  bool
	done    chan struct{}
}

// Open opens the database, brings its schema up to date and starts the writer;
// Close waits for it.
//
// The error says in one sentence what is wrong: the folder cannot be written,
// another process has the file, the file is no database, its schema is newer
// than the program.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" && cfg.Postgres == "" || cfg.Logger == nil {
		return nil, errors.New("store: Logger and one of Path and Postgres are required")
	}
	if cfg.BusyTimeout == 0 {
		cfg.BusyTimeout = 5 * time.Second
	}
	if cfg.Readers == 0 {
		cfg.Readers = 4
	}
	s := &Store{dialect: sqlite{}, logger: cfg.Logger, queue: make(chan *write, queueLimit), done: make(chan struct{})}
	if err := s.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", cfg.name(), classify(err)), s.closeFiles())
	}
	go s.write(conn)
	return s, nil
}

func (s *Store) open(ctx context.Context, cfg Config) (err error) {
	if cfg.Postgres != "" {
		s.dialect = postgres{}
		if s.writer, s.readers, err = openPostgres(ctx, cfg); err != nil {
			return err
		}
		return s.migrate(ctx, cfg.name())
	}
	if s.release, err = takeFile(cfg.Path); err != nil {
		return err
	}
	if s.writer, s.readers, err = openSQLite(ctx, cfg); err != nil {
		return err
	}
	return s.migrate(ctx, cfg.Path)
}

// Close waits for the writes under way and closes the database. Writes that
// come later answer ErrClosed.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return nil
	}
	s.closed = true
	close(s.queue)
	s.closing.Unlock()
	<-s.done
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var faults []error
	for _, db := range []*sql.DB{s.readers, s.writer} {
		if db != nil {
			faults = append(faults, db.Close())
		}
	}
	if s.release != nil {
		faults = append(faults, s.release())
	}
	return errors.Join(faults...)
}

// Read runs fn in one reading transaction: everything fn sees belongs to the
// same moment.
func (s *Store) Read(ctx context.Context, fn func(tx *Tx) error) error {
	tx, err := s.readers.BeginTx(ctx, s.dialect.reading())
	if err != nil {
		return classify(err)
	}
	defer tx.Rollback() //nolint:errcheck // a reading transaction has nothing to lose
	return classify(fn(&Tx{dialect: s.dialect, on: tx}))
}
