package tunnel

import (
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"hash"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// The first message of WireGuard carries the sender's static key encrypted to
// ours. Reading it tells which peer begins, whatever address it comes from; two
// peers behind different NATs may well share a private address and port.
//
//	type 1 | sender | ephemeral | static (sealed)  | timestamp (sealed) | mac1 | mac2
//	4      | 4      | 32        | 32 + 16          | 12 + 16            | 16   | 16
const (
	noiseConstruction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
	wireguardLabel    = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	mac1Label         = "mac1----"

	ephemeralAt = 8
	staticAt    = ephemeralAt + KeySize
	timestampAt = staticAt + KeySize + chacha20poly1305.Overhead
	mac1At      = timestampAt + 12 + chacha20poly1305.Overhead
	mac1Size    = 16
)

var errNotForUs = errors.New("handshake initiation is not addressed to this key")

// initiationReader names the sender of handshake initiations addressed to one key.
type initiationReader struct {
	private  PrivateKey
	mac1Key  [blake2s.Size]byte
	chainKey [blake2s.Size]byte
	hash     [blake2s.Size]byte
}

func newInitiationReader(private PrivateKey) *initiationReader {
	public := private.Public()
	r := &initiationReader{private: private}
	r.mac1Key = blake2s.Sum256(append([]byte(mac1Label), public[:]...))
	r.chainKey = blake2s.Sum256([]byte(noiseConstruction))
	r.hash = mixHash(mixHash(r.chainKey, []byte(wireguardLabel)), public[:])
	return r
}

// sender returns the static key inside message. The caller limits how often it
// asks: each answer costs one X25519. The key is not proven to belong to the
// sender until the device has verified the rest of the message.
func (r *initiationReader) sender(message []byte) (PublicKey, error) {
	if len(message) != initiationSize || !r.validMAC1(message) {
		return PublicKey{}, errNotForUs
	}
	ephemeral := PublicKey(message[ephemeralAt:staticAt])
	chainKey := kdf1(r.chainKey[:], ephemeral[:])
	transcript := mixHash(r.hash, ephemeral[:])
	secret, err := r.private.Shared(ephemeral)
	if err != nil {
		return PublicKey{}, errNotForUs
	}
	_, key := kdf2(chainKey[:], secret)
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		return PublicKey{}, err
	}
	var nonce [chacha20poly1305.NonceSize]byte
	static, err := aead.Open(nil, nonce[:], message[staticAt:timestampAt], transcript[:])
	if err != nil {
		return PublicKey{}, errNotForUs
	}
	return PublicKey(static), nil
}

func (r *initiationReader) validMAC1(message []byte) bool {
	mac, err := blake2s.New128(r.mac1Key[:])
	if err != nil {
		return false
	}
	mac.Write(message[:mac1At])
	return subtle.ConstantTimeCompare(mac.Sum(nil), message[mac1At:mac1At+mac1Size]) == 1
}

func mixHash(state [blake2s.Size]byte, input []byte) [blake2s.Size]byte {
	return blake2s.Sum256(append(state[:], input...))
}

func keyedHash(key, input []byte) (sum [blake2s.Size]byte) {
	mac := hmac.New(func() hash.Hash {
		h, _ := blake2s.New256(nil) // fails only for a key that is too long
		return h
	}, key)
	mac.Write(input)
	mac.Sum(sum[:0])
	return sum
}

func kdf1(key, input []byte) [blake2s.Size]byte {
	prk := keyedHash(key, input)
	return keyedHash(prk[:], []byte{1})
}

func kdf2(key, input []byte) (first, second [blake2s.Size]byte) {
	prk := keyedHash(key, input)
	first = keyedHash(prk[:], []byte{1})
	second = keyedHash(prk[:], append(first[:], 2))
	return first, second
}
