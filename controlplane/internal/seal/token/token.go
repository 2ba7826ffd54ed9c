// Package token makes and reads the bearer secrets that the server issues.
//
//	wt + kind + _ + 30 base62 characters (178 bits) + 6 base62 characters of CRC-32
//
// The checksum runs over prefix and secret. It refuses typing errors without a
// look-up and lets scanners find leaks exactly. Only the SHA-256 is kept.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

// A Kind is what a secret is good for; kinds are not interchangeable.
type Kind string

// The kinds.
const (
	Access   Kind = "wtp_"
	SetupKey Kind = "wtk_"
	Invite   Kind = "wti_"
)

const (
	secretChars   = 30
	checksumChars = 6
	alphabet      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrForm says that a text is no secret of the wanted kind.
var ErrForm = errors.New("not a valid credential")

// A Secret is a bearer secret. It prints as its prefix only, refuses JSON and
// cannot be compared with ==.
type Secret struct {
	_    [0]func()
	text string
}

// New returns a random secret.
func New(kind Kind) Secret {
	var b strings.Builder
	b.WriteString(string(kind))
	most := big.NewInt(int64(len(alphabet)))
	for range secretChars {
		n, err := rand.Int(rand.Reader, most)
		if err != nil {
			panic("crypto/rand failed: " + err.Error()) // it never does; a weak secret would be worse than an end
		}
		b.WriteByte(alphabet[n.Int64()])
	}
	return Secret{text: b.String() + checksum(b.String())}
}

// Parse checks form, kind and checksum.
func Parse(kind Kind, text string) (Secret, error) {
	if len(text) != len(kind)+secretChars+checksumChars || !strings.HasPrefix(text, string(kind)) {
		return Secret{}, ErrForm
	}
	for _, c := range text[len(kind):] {
		if !strings.ContainsRune(alphabet, c) {
			return Secret{}, ErrForm
		}
	}
	body := text[:len(kind)+secretChars]
	if checksum(body) != text[len(body):] {
		return Secret{}, ErrForm
	}
	return Secret{text: text}, nil
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	out := make([]byte, checksumChars)
	for i := range out {
		out[checksumChars-1-i] = alphabet[sum%62]
		sum /= 62
	}
	return string(out)
}

// Reveal returns the secret in clear, for the one answer that shows it.
func (s Secret) Reveal() string { return s.text }

// Sum returns the SHA-256 under which the secret is kept.
func (s Secret) Sum() [32]byte { return sha256.Sum256([]byte(s.text)) }

// Head returns the first n characters, for a list that must name the secret.
func (s Secret) Head(n int) string { return s.text[:min(n, len(s.text))] }

// Hint returns the prefix and the last four characters.
func (s Secret) Hint() string {
	if len(s.text) < 8 {
		return ""
	}
	return s.text[:4] + "..." + s.text[len(s.text)-4:]
}

// String returns the prefix only.
func (s Secret) String() string { return s.Head(4) + "***" }

// GoString returns the prefix only.
func (s Secret) GoString() string { return s.String() }

// MarshalJSON refuses: an answer that shows a secret says so with Reveal.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a secret is not written as JSON")
}
