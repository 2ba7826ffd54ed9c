package start

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/wattlenet/wattle/internal/folder"
	"github.com/wattlenet/wattle/internal/program"
)

// The files of a data folder, beside those of the store and the authority.
const (
	masterKeyFile = "master.key"
	setupKeyFile  = "setup-key"
	issuerFile    = "issuer"
	lockFile      = "lock"
	databaseFile  = "control.db"
)

// A dataFolder is the data folder of an installation, locked for this process.
type dataFolder struct {
	path string
	lock *os.File
}

// openFolder makes the data folder if need be and locks it. The caller closes
// it. A folder that another server uses is an error.
func openFolder(path string) (*dataFolder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("the data folder cannot be made: %w; run as a user who may write there, or choose another with --data-dir", err)
	}
	// MkdirAll leaves the mode of a folder that was there.
	if err := folder.Restrict(path); err != nil {
		return nil, fmt.Errorf("the data folder cannot be closed to other users: %w; make it yours, or choose another with --data-dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the folder is the operator's choice
	if err != nil {
		return nil, fmt.Errorf("the data folder cannot be written: %w; run as the user who owns it, or choose another with --data-dir", err)
	}
	if err := tryLock(lock); err != nil {
		_ = lock.Close()
		if isLocked(err) {
			return nil, fmt.Errorf("another wattle-server uses the data folder %s; stop it first", path)
		}
		return nil, fmt.Errorf("the data folder %s cannot be locked: %w; choose another with --data-dir", path, err)
	}
	return &dataFolder{path: path, lock: lock}, nil
}

// Close releases the lock.
func (f *dataFolder) Close() error { return f.lock.Close() }

func (f *dataFolder) file(name string) string { return filepath.Join(f.path, name) }

// touch makes a file that only the owner can read, if it is not there yet. The
// engine of the database would take the mode of the process, and gives its other
// files the mode of this one.
func (f *dataFolder) touch(name string) error {
	file, err := os.OpenFile(f.file(name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the database: %w; check owner and mode of the data folder", err)
	}
	return file.Close()
}

// write stores a secret, readable by the owner only, and returns when it is on
// disk. A reader sees the old file or the new one, never a part.
func (f *dataFolder) write(name, text string) error {
	if err := folder.Replace(f.file(name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// listenError explains why an address cannot be listened on.
func listenError(flag, address string, err error) error {
	switch {
	case isAddressInUse(err):
		return program.Exit(program.ExitFailed, "%s is in use by another program: %w; stop that one, or choose another address with %s", address, err, flag)
	case errors.Is(err, fs.ErrPermission):
		return program.Exit(program.ExitFailed, "%s may not be opened by this user: %w; choose a port above 1023 with %s, or grant CAP_NET_BIND_SERVICE", address, err, flag)
	default:
		return program.Exit(program.ExitFailed, "cannot listen on %s: %w; choose another address with %s", address, err, flag)
	}
}

// issuer returns the audience of agent tokens. It is the first public URL of
// the installation and stays when that URL changes, since every enrolled agent
// was told it.
func (f *dataFolder) issuer(public *url.URL) (string, error) {
	text, err := os.ReadFile(f.file(issuerFile))
	if err == nil && strings.TrimSpace(string(text)) != "" {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the issuer of agent tokens: %w", err)
	}
	return public.String(), f.write(issuerFile, public.String()+"\n")
}
