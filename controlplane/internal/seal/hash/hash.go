// Package hash keeps passwords as argon2id hashes (RFC 9106).
package hash

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash: 19 MiB, two passes, one lane.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// Bounds of what a stored hash may ask for, so that a damaged row can neither
// exhaust memory nor make the library panic.
const (
	maxMemoryKiB = 256 * 1024
	maxPasses    = 10
	maxLanes     = 8
)

// ErrForm says that a text is no argon2id hash within the bounds.
var ErrForm = errors.New("not an argon2id hash")

// slots bounds how many hashes are computed at once: each takes 19 MiB.
var slots = make(chan struct{}, runtime.GOMAXPROCS(0))

// Password returns the hash of a password in the PHC string format. It waits for
// its turn, at most until ctx ends.
func Password(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum, err := compute(ctx, password, cost{memoryKiB, passes, lanes}, salt, hashBytes)
	if err != nil {
		return "", err
	}
	return encode(cost{memoryKiB, passes, lanes}, salt, sum), nil
}

// Verify reports whether password is the one that was hashed. A text that is no
// hash costs as much as a real comparison and is never equal.
func Verify(ctx context.Context, phc, password string) (bool, error) {
	c, salt, sum, err := decode(phc)
	if err != nil {
		c, salt, sum = cost{memoryKiB, passes, lanes}, make([]byte, saltBytes), make([]byte, hashBytes)
	}
	got, failed := compute(ctx, password, c, salt, len(sum))
	if failed != nil {
		return false, failed
	}
	return subtle.ConstantTimeCompare(got, sum) == 1 && err == nil, nil
}

type cost struct {
	memory, passes uint32
	lanes          uint8
}

func compute(ctx context.Context, password string, c cost, salt []byte, length int) ([]byte, error) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-slots }()
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.lanes, uint32(length)), nil
}

func encode(c cost, salt, sum []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}
