package connectivity

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// A box is what the control plane carries and cannot read:
//
//	version 1 | nonce 24 | XChaCha20-Poly1305( epoch 8 | counter 8 | message ) | tag 16
//
// The key comes from the X25519 secret of both tunnel keys by HKDF-SHA256 (RFC
// 5869), one key per direction, so a box opens only for the peer it was sealed
// for and only as coming from the peer that sealed it. The epoch is the moment
// the sender started; within it the counter grows. A receiver takes a box only
// if (epoch, counter) is greater than any before it.
const (
	boxVersion  = 1
	boxHeader   = 1 + chacha20poly1305.NonceSizeX
	boxOrder    = 16 // epoch and counter
	boxOverhead = boxHeader + boxOrder + chacha20poly1305.Overhead

	boxLabel   = "wattle signaling v1"
	probeLabel = "wattle probe v1"
	tagLabel   = "wattle probe tag v1"

	probeTagSize = 12
)

var (
	errBoxSize   = errors.New("sealed message has an impossible length")
	errBoxSeal   = errors.New("sealed message is not from this peer to this machine, or was changed")
	errBoxReplay = errors.New("sealed message was received before")
)

// A sealer seals and opens the messages of one pair. It is not safe for
// concurrent use.
type sealer struct {
	out, in cipher.AEAD

	epoch, counter         uint64 // of the last box sealed
	seenEpoch, seenCounter uint64 // of the last box opened
	probeKey               []byte // of both directions: STUN MESSAGE-INTEGRITY
	ownTag, peerTag        string // names of the senders of probes
}

// newSealer fails for a public key of small order.
func newSealer(private tunnel.PrivateKey, peer tunnel.PublicKey, start time.Time) (*sealer, error) {
	secret, err := private.Shared(peer)
	if err != nil {
		return nil, err
	}
	own := private.Public()
	s := &sealer{epoch: uint64(start.UnixNano())}
	if s.out, err = directionCipher(secret, own, peer); err != nil {
		return nil, err
	}
	if s.in, err = directionCipher(secret, peer, own); err != nil {
		return nil, err
	}
	if s.probeKey, err = hkdf.Key(sha256.New, secret, nil, probeLabel, sha256.Size); err != nil {
		return nil, err
	}
	if s.ownTag, err = probeTag(secret, own); err != nil {
		return nil, err
	}
	s.peerTag, err = probeTag(secret, peer)
	return s, err
}

func directionCipher(secret []byte, from, to tunnel.PublicKey) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, boxLabel+string(from[:])+string(to[:]), chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(key)
}

func probeTag(secret []byte, sender tunnel.PublicKey) (string, error) {
	raw, err := hkdf.Key(sha256.New, secret, nil, tagLabel+string(sender[:]), probeTagSize)
	return fmt.Sprintf("%x", raw), err
}

// seal returns the box of a message. Each box is sealed once.
func (s *sealer) seal(message []byte) ([]byte, error) {
	if len(message)+boxOverhead > MaximumBox {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", errBoxSize, len(message), MaximumBox-boxOverhead)
	}
	s.counter++
	box := make([]byte, boxHeader, boxOverhead+len(message))
	box[0] = boxVersion
	_, _ = rand.Read(box[1:boxHeader]) // never fails since Go 1.24
	plain := binary.BigEndian.AppendUint64(nil, s.epoch)
	plain = binary.BigEndian.AppendUint64(plain, s.counter)
	plain = append(plain, message...)
	return s.out.Seal(box, box[1:boxHeader], plain, box[:1]), nil
}

// open returns the message of a box and whether the peer has restarted since
// the one before. It returns errBoxSize, errBoxSeal or errBoxReplay.
func (s *sealer) open(box []byte) (message []byte, restarted bool, err error) {
	if len(box) < boxOverhead || len(box) > MaximumBox || box[0] != boxVersion {
		return nil, false, errBoxSize
	}
	plain, err := s.in.Open(nil, box[1:boxHeader], box[boxHeader:], box[:1])
	if err != nil {
		return nil, false, errBoxSeal
	}
	epoch, counter := binary.BigEndian.Uint64(plain), binary.BigEndian.Uint64(plain[8:])
	if epoch < s.seenEpoch || epoch == s.seenEpoch && counter <= s.seenCounter {
		return nil, false, errBoxReplay
	}
	restarted = s.follow(epoch)
	s.seenCounter = counter
	return plain[boxOrder:], restarted, nil
}

// follow takes notice of the peer's process and reports whether it is another,
// newer one than before. Boxes of former processes are refused from then on.
func (s *sealer) follow(process uint64) (restarted bool) {
	if process <= s.seenEpoch {
		return false
	}
	restarted = s.seenEpoch != 0
	s.seenEpoch, s.seenCounter = process, 0
	return restarted
}
