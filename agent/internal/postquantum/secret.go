package postquantum

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// A shared secret is expanded by HKDF-SHA256 (RFC 5869). What leaves this
// package is a pre-shared key, for one key of WireGuard at each end; what an
// exchange is bound to is all that was said in it.
const (
	agreedLabel = "wattle post-quantum secret v1 "
	nameLabel   = "wattle post-quantum name v1"
	keyLabel    = "wattle post-quantum preshared key v1"

	// KeySize is the length of a pre-shared key in bytes.
	KeySize = 32
)

// A Secret is what two machines have agreed on.
type Secret struct {
	name  string
	bytes []byte
	since time.Time // in use
}

// newSecret takes the secret of a mechanism, and the offer and answer that it
// came from.
func newSecret(mechanism string, shared, offer, answer []byte) (*Secret, error) {
	transcript := sha256.New()
	_, _ = transcript.Write(offer) // never fails
	_, _ = transcript.Write(answer)
	bytes, err := hkdf.Key(sha256.New, shared, transcript.Sum(nil), agreedLabel+mechanism, sha256.Size)
	if err != nil {
		return nil, err
	}
	name, err := hkdf.Key(sha256.New, bytes, nil, nameLabel, nameLength/2)
	if err != nil {
		return nil, err
	}
	return &Secret{name: hex.EncodeToString(name), bytes: bytes}, nil
}

// Key returns the pre-shared key for sessions between two keys of WireGuard, in
// whichever order. It is another one for every other pair of keys.
func (s *Secret) Key(one, other [KeySize]byte) ([KeySize]byte, error) {
	if string(one[:]) > string(other[:]) {
		one, other = other, one
	}
	key, err := hkdf.Key(sha256.New, s.bytes, nil, keyLabel+string(one[:])+string(other[:]), KeySize)
	if err != nil {
		return [KeySize]byte{}, err
	}
	return [KeySize]byte(key), nil
}

// String hides the secret.
func (*Secret) String() string { return "(secret)" }

// GoString hides the secret from %#v.
func (*Secret) GoString() string { return "(secret)" }

func randomName() string {
	var raw [nameLength / 2]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}
