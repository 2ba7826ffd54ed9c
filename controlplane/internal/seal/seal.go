package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// ErrOpen says that a sealed value is damaged, belongs to another place, or was
// sealed with a key that is not there.
var ErrOpen = errors.New("sealed value does not open")

const version = 1

// canaryText is the known value that proves a master key.
const canaryText = "wattle"

// Keys keeps the wrapped keys.
type Keys interface {
	SealedKeys(ctx context.Context) (store.Canary, []store.DataKey, error)
	InitSealedKeys(ctx context.Context, canary store.Canary, key store.DataKey) error
}

// A Place says where a sealed value is kept.
type Place struct{ Table, Column, Row string }

// A Keyring seals and opens values. It is safe for concurrent use.
type Keyring struct {
	current string // id of the data key that seals
	keys    map[string]cipher.AEAD
}

// Open reads the master key from a file and unwraps the data keys.
//
// In a fresh database it makes both: the file, unless it is there, and the first
// data key. A database that holds sealed values never gets a new key: when the
// file is missing or holds another key, the error names the key id that is
// expected.
func Open(ctx context.Context, path string, keys Keys) (*Keyring, error) {
	canary, wrapped, err := keys.SealedKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sealed keys: %w", err)
	}
	fresh := canary.MasterKeyID == ""
	master, err := ReadMasterKey(path)
	switch {
	case missing(err) && fresh:
		master = NewMasterKey()
		if err := master.create(path); err != nil {
			return nil, err
		}
	case missing(err):
		return nil, fmt.Errorf("the database is sealed with master key %s and the file %s is missing; restore that file from your backup", canary.MasterKeyID, path)
	case err != nil:
		return nil, err
	}
	if fresh {
		return initialise(ctx, master, keys)
	}
	return unwrap(master, path, canary, wrapped)
}

func initialise(ctx context.Context, master MasterKey, keys Keys) (*Keyring, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	id := keyID(key)
	outer, err := master.ring()
	if err != nil {
		return nil, err
	}
	canary := store.Canary{MasterKeyID: master.id, Sealed: outer.Seal(Place{"canary", "sealed", "canary"}, []byte(canaryText))}
	row := store.DataKey{ID: id, MasterKeyID: master.id, Wrapped: outer.Seal(Place{"data_key", "wrapped", id}, key), CreatedAt: time.Now().UTC()}
	if err := keys.InitSealedKeys(ctx, canary, row); err != nil {
		return nil, fmt.Errorf("keep sealed keys: %w", err)
	}
	return newRing(id, map[string][]byte{id: key})
}

func unwrap(master MasterKey, path string, canary store.Canary, wrapped []store.DataKey) (*Keyring, error) {
	outer, err := master.ring()
	if err != nil {
		return nil, err
	}
	if text, err := outer.Open(Place{"canary", "sealed", "canary"}, canary.Sealed); err != nil || string(text) != canaryText {
		return nil, fmt.Errorf("the database is sealed with master key %s, but %s holds master key %s; put the right file in its place", canary.MasterKeyID, path, master.id)
	}
	plain := map[string][]byte{}
	current := ""
	for _, row := range wrapped {
		key, err := outer.Open(Place{"data_key", "wrapped", row.ID}, row.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("data key %s does not open with master key %s: %w; restore a backup", row.ID, master.id, err)
		}
		plain[row.ID], current = key, row.ID
	}
	if current == "" {
		return nil, fmt.Errorf("the database has no data key for master key %s; restore a backup", master.id)
	}
	return newRing(current, plain)
}

// ring returns a keyring that holds the master key alone.
func (k MasterKey) ring() (*Keyring, error) { return newRing(k.id, map[string][]byte{k.id: k.key}) }

func newRing(current string, plain map[string][]byte) (*Keyring, error) {
	ring := &Keyring{current: current, keys: map[string]cipher.AEAD{}}
	for id, key := range plain {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
		if ring.keys[id], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
	}
	return ring, nil
}

// Seal encrypts a value for one place.
func (r *Keyring) Seal(at Place, value []byte) []byte {
	aead := r.keys[r.current]
	id, _ := hex.DecodeString(r.current) // made by keyID
	sealed := append([]byte{version}, id...)
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	sealed = append(sealed, nonce...)
	return aead.Seal(sealed, nonce, value, at.bind(r.current))
}

// Open decrypts a value of one place; ErrOpen when it was not sealed for it with
// a key of the ring.
func (r *Keyring) Open(at Place, sealed []byte) ([]byte, error) {
	const header = 1 + idBytes
	if len(sealed) < header || sealed[0] != version {
		return nil, ErrOpen
	}
	id := hex.EncodeToString(sealed[1:header])
	aead, ok := r.keys[id]
	if !ok || len(sealed) < header+aead.NonceSize() {
		return nil, ErrOpen
	}
	nonce, text := sealed[header:header+aead.NonceSize()], sealed[header+aead.NonceSize():]
	value, err := aead.Open(nil, nonce, text, at.bind(id))
	if err != nil {
		return nil, ErrOpen
	}
	return value, nil
}

// bind is the additional data: each part with its length in front.
func (p Place) bind(keyID string) []byte {
	var data []byte
	for _, part := range []string{p.Table, p.Column, p.Row, keyID} {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return data
}
