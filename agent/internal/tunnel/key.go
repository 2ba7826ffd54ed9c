package tunnel

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// KeySize is the length of a WireGuard key in bytes.
const KeySize = 32

// A PublicKey names a peer: its Curve25519 static public key.
type PublicKey [KeySize]byte

// ParsePublicKey reads the usual form of a WireGuard key: 44 characters of
// standard base64.
func ParsePublicKey(text string) (PublicKey, error) {
	raw, err := decodeKey(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parse public key: %w", err)
	}
	return PublicKey(raw), nil
}

// String returns the key in standard base64.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Less orders keys by their bytes. The order decides which side of a pair
// leads when both begin at the same moment.
func (k PublicKey) Less(other PublicKey) bool { return string(k[:]) < string(other[:]) }

// IsZero reports whether the key was never set.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// A PrivateKey is a Curve25519 scalar. It does not print, and the compiler
// refuses to compare two of them with ==; use Equal.
type PrivateKey struct {
	secret
	scalar [KeySize]byte
}

// A secret does not print, is not encoded by reflection, and makes what holds it
// impossible to compare with ==.
type secret struct{ _ [0]func() }

// GenerateKey makes a new private key.
func GenerateKey() PrivateKey {
	var k PrivateKey
	_, _ = rand.Read(k.scalar[:]) // never fails since Go 1.24
	k.clamp()
	return k
}

// ParsePrivateKey reads a private key in standard base64, as Encode wrote it.
func ParsePrivateKey(text string) (PrivateKey, error) {
	raw, err := decodeKey(text)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("parse private key: %w", err)
	}
	k := PrivateKey{scalar: raw}
	k.clamp()
	return k, nil
}

// Encode returns the key in standard base64, for the state file and nothing else.
func (k PrivateKey) Encode() string { return base64.StdEncoding.EncodeToString(k.scalar[:]) }

// Public returns the key that belongs to k.
func (k PrivateKey) Public() PublicKey {
	private, err := ecdh.X25519().NewPrivateKey(k.scalar[:])
	if err != nil { // only a wrong length fails
		return PublicKey{}
	}
	return PublicKey(private.PublicKey().Bytes())
}

// Shared returns the X25519 secret (RFC 7748, section 6.1) of k and public.
// A public key of small order is an error.
func (k PrivateKey) Shared(public PublicKey) ([]byte, error) {
	private, err := ecdh.X25519().NewPrivateKey(k.scalar[:])
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	remote, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	secret, err := private.ECDH(remote)
	if err != nil {
		return nil, fmt.Errorf("public key %s: %w", public, err)
	}
	return secret, nil
}

// Equal compares two keys in constant time.
func (k PrivateKey) Equal(other PrivateKey) bool {
	return subtle.ConstantTimeCompare(k.scalar[:], other.scalar[:]) == 1
}

// IsZero reports whether the key was never set.
func (k PrivateKey) IsZero() bool {
	var zero [KeySize]byte
	return subtle.ConstantTimeCompare(k.scalar[:], zero[:]) == 1
}

// String hides the key.
func (secret) String() string { return "(secret key)" }

// GoString hides the key from %#v.
func (secret) GoString() string { return "(secret key)" }

// Format hides the key from every verb.
func (secret) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte("(secret key)")) }

// LogValue hides the key from log records.
func (secret) LogValue() slog.Value { return slog.StringValue("(secret key)") }

// MarshalText refuses, so that no encoder writes the key by accident.
func (secret) MarshalText() ([]byte, error) {
	return nil, errors.New("a secret key is not encoded by reflection: call Encode where it is stored")
}

func (k PrivateKey) hex() string { return hex.EncodeToString(k.scalar[:]) }

// clamp forces the bits that RFC 7748, section 5 prescribes.
func (k *PrivateKey) clamp() {
	k.scalar[0] &= 248
	k.scalar[31] = k.scalar[31]&127 | 64
}

func decodeKey(text string) ([KeySize]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != KeySize {
		return [KeySize]byte{}, errors.New("want 32 bytes in standard base64 (44 characters)")
	}
	return [KeySize]byte(raw), nil
}
