package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. A database that holds something is
// copied before it is touched; one that is newer than the program is refused.
// The lock on the file keeps other processes out meanwhile.
func (s *Store) migrate(ctx context.Context, path string) error {
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
		return fmt.Errorf("read schema version of %s: %w", path, classify(err))
	}
	switch {
	case have > want:
		return fmt.Errorf("database %s has schema version %d and this program knows versions up to %d; start the newer program or restore a backup", path, have, want)
	case have == want:
		return nil
	case have > 0:
		copied := fmt.Sprintf("%s.before-%d.%s", path, want, time.Now().UTC().Format("20060102T150405Z"))
		if err := s.dialect.backup(ctx, s.writer, copied); err != nil {
			return fmt.Errorf("copy database to %s before its migration: %w", copied, err)
		}
		s.logger.Info("database copied before migration", "path", copied)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate database %s from schema version %d to %d: %w", path, have, want, classify(err))
	}
	return nil
}
