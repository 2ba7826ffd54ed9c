package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// A dialect is what differs between engines. All other SQL of the package is
// one text for every engine.
type dialect interface {
	// begin starts a writing transaction. Writers of one account are ordered by
	// the lock on its row, which NextSerial takes.
	begin() string

	// reading makes all queries of a transaction see the same moment.
	reading() *sql.TxOptions

	// placeholders writes the ? of a query as the engine wants them.
	placeholders(query string) string

	// noTransaction reports whether an error only says that no transaction is open.
	noTransaction(err error) bool

	// classify finds the fault of this package that an error of the engine
	// means, nil when none does; ok is false when the error is not the engine's.
	classify(err error) (fault error, ok bool)

	// receipt names the transaction, so that kept can tell its fate after the
	// connection was lost in the middle of COMMIT. Empty where that cannot happen.
	receipt(ctx context.Context, tx *Tx) (string, error)

	// kept reports whether the transaction of a receipt was committed.
	kept(ctx context.Context, db *sql.DB, receipt string) (bool, error)

	// exclusive keeps other processes from migrating the schema until release.
	exclusive(ctx context.Context, db *sql.DB) (release func() error, err error)

	// backup writes a copy of the database to path before a migration, where
	// the engine can.
	backup(ctx context.Context, db *sql.DB, path string) (copied bool, err error)

	// goose is the name of the engine for the migrations.
	goose() goose.Dialect
}

// dialects are all engines, for classify: an error tells by its type whose it is.
var dialects = []dialect{sqlite{}, postgres{}}
