// Package audit chains audit events so that a change or a gap afterwards shows.
//
// The hash of an event is the SHA-256 over the hash of the event before it and
// every field of its own, each with its length in front.
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// Chain returns the hash of an event that follows an event with the hash
// before; nil for the first event of an account.
func Chain(before []byte, e store.AuditEntry) []byte {
	sum := sha256.New()
	write(sum, before)
	number(sum, e.N)
	number(sum, e.CreatedAt.UnixMilli())
	for _, field := range []string{
		e.AccountID, e.Activity, e.InitiatorID, e.InitiatorName, e.InitiatorEmail, e.TargetID, e.Channel, e.RequestID, e.Meta, e.Before, e.After,
	} {
		write(sum, []byte(field))
	}
	return sum.Sum(nil)
}

func write(h hash.Hash, field []byte) {
	number(h, int64(len(field)))
	h.Write(field)
}

func number(h hash.Hash, n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

// A Verifier follows the chain of one account from its first event.
type Verifier struct {
	n    int64
	hash []byte
}

// Next takes the next event; the error names the first event that does not fit.
func (v *Verifier) Next(e store.AuditEntry) error {
	if e.N != v.n+1 {
		return fmt.Errorf("audit event %d follows event %d: events are missing", e.N, v.n)
	}
	want := Chain(v.hash, e)
	if string(want) != string(e.Hash) {
		return fmt.Errorf("audit event %d was changed after it was written", e.N)
	}
	v.n, v.hash = e.N, e.Hash
	return nil
}
