package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. A database that holds something is
// copied before it is touched; one that is newer than the program is refused.
// Other processes are kept out meanwhile. name says which database it is, and
// where copies go.
func (s *Store) migrate(ctx context.Context, name string) (err error) {
	release, err := s.dialect.exclusive(ctx, s.writer)
	if err != nil {
		return fmt.Errorf("keep others from migrating database %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	scripts, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(s.dialect.goose(), s.writer, scripts, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version of %s: %w", name, classify(err))
	}
	switch {
	case have > want:
		return fmt.Errorf("database %s has schema version %d and this program knows versions up to %d; start the newer program or restore a backup", name, have, want)
	case have == want:
		return nil
	case have > 0:
		copied := fmt.Sprintf("%s.before-%d.%s", name, want, time.Now().UTC().Format("20060102T150405Z"))
		done, err := s.dialect.backup(ctx, s.writer, copied)
		if err != nil {
			return fmt.Errorf("copy database to %s before its migration: %w", copied, err)
		}
		if done {
			s.logger.Info("database copied before migration", "path", copied)
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate database %s from schema version %d to %d: %w", name, have, want, classify(err))
	}
	return nil
}
