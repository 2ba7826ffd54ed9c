package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/wattlenet/wattle/internal/folder"
)

// Files of the state folder.
const (
	identityFile = "identity.json"
	mapFile      = "map.json"
	pathsFile    = "paths.json"
	lockFile     = "lock"

	folderMode = 0o700
	fileMode   = 0o600
)

// ErrInUse means that another daemon holds the state folder.
var ErrInUse = errors.New("another wattle daemon uses this state folder; stop it or name another folder with --state-dir")

// A Store is the state folder of one daemon:
//
//	identity.json   keys, peer id, control plane (this file is the peer)
//	map.json        the last network map and its place in history
//	paths.json      where peers were reached last, and the relays with their credentials
//	lock            held while a daemon runs
//
// Every file is written beside its place, synced and renamed, so a reader sees
// the old content or the new, whatever happens to disk or power.
type Store struct {
	dir  string
	lock *os.File
	mu   sync.Mutex // guards the files
}

// Open makes the folder when it is missing, mode 0700, and takes its lock. The
// error wraps ErrInUse when another daemon has it.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, fmt.Errorf("make the state folder: %w; run as root, or name another folder with --state-dir", err)
	}
	if err := folder.Restrict(dir); err != nil {
		return nil, fmt.Errorf("close the state folder to others: %w; run as its owner, or name another folder with --state-dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, fileMode) //nolint:gosec // a fixed name in the state folder
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state folder: %w; make %s writable for the daemon", err, dir)
	}
	if err := takeLock(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock the state folder %s: %w", dir, err)
	}
	s := &Store{dir: dir, lock: lock}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// sweep removes what a daemon left that ended in the middle of a write.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("look for half-written files: %w; make %s readable for the daemon", err, s.dir)
	}
	for _, entry := range entries {
		if !slices.ContainsFunc([]string{identityFile, mapFile, pathsFile}, func(name string) bool {
			return strings.HasPrefix(entry.Name(), folder.Temporary(name))
		}) {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, entry.Name())); err != nil {
			return fmt.Errorf("remove a half-written file: %w; make %s writable for the daemon", err, s.dir)
		}
	}
	return nil
}

// Close gives the folder free.
func (s *Store) Close() error { return s.lock.Close() }

// Dir returns the folder.
func (s *Store) Dir() string { return s.dir }

// Load returns the identity, or nil when the machine has none yet.
func (s *Store) Load() (*Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, identityFile)
	raw, err := os.ReadFile(path) //nolint:gosec // a fixed name in the state folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w; make the file readable for the daemon, or remove it and enrol again", err)
	}
	found, err := decodeIdentity(raw)
	if err != nil {
		return nil, fmt.Errorf("read the identity in %s: %w; restore the file, or remove it and enrol again", path, err)
	}
	return found, nil
}

// Save writes the identity. After an error the former one is still there.
func (s *Store) Save(i *Identity) error {
	raw, err := i.encode()
	if err != nil {
		return fmt.Errorf("encode the identity: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(identityFile, append(raw, '\n'))
}

// Forget removes the identity and all that was learned with it.
func (s *Store) Forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The identity goes last: without a map the machine only asks for one.
	for _, name := range []string{mapFile, pathsFile, identityFile} {
		if err := folder.Remove(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("forget the identity: %w", err)
		}
	}
	return nil
}

// LoadMap returns the last map as SaveMap was given it, or nil when there is none.
func (s *Store) LoadMap() ([]byte, error) {
	raw, err := s.read(mapFile)
	if err != nil {
		return nil, fmt.Errorf("read the last network map: %w", err)
	}
	return raw, nil
}

// LoadPaths returns what SavePaths was given last, or nil when there is nothing.
func (s *Store) LoadPaths() ([]byte, error) {
	raw, err := s.read(pathsFile)
	if err != nil {
		return nil, fmt.Errorf("read where peers were reached last: %w", err)
	}
	return raw, nil
}

// SavePaths keeps where peers were reached for the next start.
func (s *Store) SavePaths(raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(pathsFile, raw)
}

// read returns the content of a file, nil when it is not there.
func (s *Store) read(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := os.ReadFile(filepath.Join(s.dir, name)) //nolint:gosec // a fixed name in the state folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// SaveMap keeps the map for the next start.
func (s *Store) SaveMap(raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(mapFile, raw)
}

// ForgetMap removes the last map and where its peers were reached.
func (s *Store) ForgetMap() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range []string{pathsFile, mapFile} {
		if err := folder.Remove(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("forget the last network map: %w", err)
		}
	}
	return nil
}

// write replaces a file as a whole or not at all. The caller holds mu.
func (s *Store) write(name string, content []byte) error {
	return folder.Replace(filepath.Join(s.dir, name), content, fileMode)
}
