package netmap

import (
	"context"
	"errors"
)

// ErrUnknownPeer says that the account has no such peer.
var ErrUnknownPeer = errors.New("the account has no such peer")

// A Config describes the engine of one account.
type Config struct {
	// Account is the id of the account. Required.
	Account string
	// Epoch names the history of the account's serials. Required.
	Epoch string
	// Secret keys the opaque ids of sets and rules; the same secret gives the same ids after a restart. Required,
	// at least 16 bytes.
	Secret []byte
	// Blobs keeps the parts of snapshots; several engines may share one. Nil means one of its own with 64 MiB.
	Blobs *BlobCache
	// LogEntries bounds the entries of all class logs together. Zero means 100,000.
	LogEntries int
}

// An Engine holds the maps of one account in memory. It is safe for concurrent use.
type Engine struct{ cfg Config }

// New returns the engine of an empty account at serial 0.
func New(cfg Config) (*Engine, error) { return &Engine{cfg: cfg}, nil }

// Load applies the changes that make up an account as it is stored, and starts its history at serial.
func (e *Engine) Load(serial int64, changes []Change) error { return nil }

// Apply applies the changes of one write. The serial must be greater than the one before. On an error nothing changed.
func (e *Engine) Apply(serial int64, changes ...Change) (*Update, error) {
	return &Update{Serial: serial}, nil
}

// Epoch returns the name of the history of serials.
func (e *Engine) Epoch() string { return e.cfg.Epoch }

// Serial returns the serial of the last changes applied.
func (e *Engine) Serial() int64 { return 0 }

// Sees reports whether the map of peer a shows peer b.
func (e *Engine) Sees(a, b string) bool { return false }

// Accessible returns the ids of the peers to which the peer may open traffic, in the order of their ordinals.
func (e *Engine) Accessible(peerID string) ([]string, error) { return nil, nil }

// AccessibleCount returns how many peers Accessible would return.
func (e *Engine) AccessibleCount(peerID string) (int, error) { return 0, nil }

// Blob returns a compressed part of the peer's present snapshot by the SHA-256 of its uncompressed bytes.
func (e *Engine) Blob(ctx context.Context, peerID, sha256 string) ([]byte, error) { return nil, nil }

// A BlobCache keeps compressed parts of snapshots up to a number of bytes.
type BlobCache struct{ limit int64 }

// NewBlobCache returns an empty cache that holds at most limit bytes.
func NewBlobCache(limit int64) *BlobCache { return &BlobCache{limit: limit} }
