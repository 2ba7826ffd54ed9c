// Package seal encrypts the secrets that the server must read back.
//
//	master key (file) --wraps--> data key (table data_key) --seals--> value
//
//	sealed value:  version (1 byte) | key id (8) | nonce (12) | AES-256-GCM ciphertext and tag
//
// The additional data binds a value to its place: table, column, row and key
// id. A value that is moved to another row does not open there.
package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/wattlenet/wattle/internal/folder"
)

const (
	keyBytes = 32 // AES-256
	idBytes  = 8

	masterPrefix = "wattle-master-key-1:"
)

// A MasterKey wraps data keys. It does not print.
type MasterKey struct {
	_   [0]func() // not comparable
	id  string
	key []byte
}

// ID returns the public name of the key; it says nothing about the key.
func (k MasterKey) ID() string { return k.id }

// String returns the id only.
func (k MasterKey) String() string { return "master key " + k.id }

// GoString returns the id only.
func (k MasterKey) GoString() string { return k.String() }

// NewMasterKey returns a random master key.
func NewMasterKey() MasterKey {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return masterKey(key)
}

func masterKey(key []byte) MasterKey { return MasterKey{id: keyID(key), key: key} }

// keyID names a key by a hash that cannot be turned back.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("wattle key id\x00"), key...))
	return hex.EncodeToString(sum[:idBytes])
}

// ReadMasterKey reads a key file; the error is fs.ErrNotExist when there is none.
func ReadMasterKey(path string) (MasterKey, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the path comes from the configuration
	if err != nil {
		return MasterKey{}, fmt.Errorf("read master key: %w", err)
	}
	encoded, ok := strings.CutPrefix(strings.TrimSpace(string(text)), masterPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != keyBytes {
		return MasterKey{}, fmt.Errorf("file %s holds no master key; it must be one line that begins with %s", path, masterPrefix)
	}
	return masterKey(key), nil
}

// create writes the key to a new file with mode 0600 and syncs it; an existing
// file is never overwritten.
func (k MasterKey) create(path string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the path comes from the configuration
	if err != nil {
		return fmt.Errorf("create master key file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteString(masterPrefix + base64.StdEncoding.EncodeToString(k.key) + "\n"); err != nil {
		return fmt.Errorf("write master key file: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write master key file: %w", err)
	}
	return folder.Sync(filepath.Dir(path))
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
