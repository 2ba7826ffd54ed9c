package mapstate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// A Digest is the sum, modulo 2^128, of the hashes of the items of a map: one for each peer entry, each member of each
// set, each rule, each route and the peer's own view. It does not depend on order, and an item comes or goes with one addition.
// It finds mistakes; it is no protection against an attacker. The zero value is the digest of nothing.
//
// The hash of an item is the first 16 bytes of SHA-256 over a letter for its kind and its fields: text as length
// (uint32) and bytes, numbers as uint32, all big endian.
type Digest struct{ hi, lo uint64 }

// Plus returns d with the item or the sum o added.
func (d Digest) Plus(o Digest) Digest {
	lo, carry := bits.Add64(d.lo, o.lo, 0)
	hi, _ := bits.Add64(d.hi, o.hi, carry)
	return Digest{hi, lo}
}

// Minus returns d without the item or the sum o.
func (d Digest) Minus(o Digest) Digest {
	lo, borrow := bits.Sub64(d.lo, o.lo, 0)
	hi, _ := bits.Sub64(d.hi, o.hi, borrow)
	return Digest{hi, lo}
}

// String returns 32 hexadecimal digits, as the contract writes a digest.
func (d Digest) String() string {
	var text [16]byte
	binary.BigEndian.PutUint64(text[:8], d.hi)
	binary.BigEndian.PutUint64(text[8:], d.lo)
	return hex.EncodeToString(text[:])
}

// HashPeer is the hash of a peer entry.
func HashPeer(p api.PeerEntry) Digest {
	i := newItem('p').number(p.N).text(p.Id, p.Key, p.Name, p.Ip, p.Ipv6).text(p.Aliases...)
	if p.NextKey != "" {
		i = i.number(nextKeyMark).text(p.NextKey)
	}
	return i.sum()
}

// HashMember is the hash of one member of a set.
func HashMember(set string, ordinal uint32) Digest {
	return newItem('m').text(set).number(ordinal).sum()
}

// HashSet is the hash of a set's existence, so that an empty set counts.
func HashSet(set string) Digest {
	return newItem('s').text(set).sum()
}

// HashRule is the hash of a compiled rule.
func HashRule(r api.CompiledRule) Digest {
	i := newItem('r').text(r.Id, string(r.Direction), r.Source, r.Destination, string(r.Action), string(r.Protocol))
	if r.Ports != nil {
		for _, ports := range *r.Ports {
			i = i.number(uint32(ports.Start)).number(uint32(ports.End))
		}
	}
	if end := routedEnd(r); end != "" {
		i = i.text(string(end))
	}
	if term := TermOf(r); Monitors(r) || term != (verdict.Term{}) {
		i = i.number(termMark).flags(Monitors(r)).text(instant(term.NotBefore), instant(term.NotAfter))
	}
	return i.sum()
}

// instant writes a time, and nothing for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// HashRoute is the hash of a route.
func HashRoute(r api.CompiledRoute) Digest {
	i := newItem('t').text(r.Id, string(r.Role), r.Network, r.Name).
		flags(valueOf(r.Masquerade), valueOf(r.KeepRoute), valueOf(r.SkipAutoApply)).
		text(valueOf(r.Prefix)).number(uint32(len(valueOf(r.Domains)))).text(valueOf(r.Domains)...)
	for _, router := range valueOf(r.Routers) {
		i = i.text(router.Set).number(uint32(router.Metric))
	}
	return i.sum()
}

// valueOf reads an optional field; absent is the zero value.
func valueOf[T any](field *T) (value T) {
	if field != nil {
		value = *field
	}
	return value
}

// HashSelf is the hash of a peer's own view.
func HashSelf(s api.SelfView) Digest {
	approved := uint32(0)
	if s.Approved {
		approved = 1
	}
	i := newItem('o').number(s.N).number(approved).
		text(s.Id, s.Name, s.Key, s.Ip, s.Ipv6, s.Network, s.NetworkV6, s.DnsDomain).text(s.Aliases...)
	if len(s.Processes) > 0 {
		i = i.number(uint32(len(s.Processes))).text(s.Processes...)
	}
	if s.KeepsDns { // agents of the first version know nothing of it, and are not told
		i = i.number(1)
	}
	if s.NextKey != "" {
		i = i.number(nextKeyMark).text(s.NextKey)
	}
	if s.KeyRotationDays != 0 || s.PostQuantum != "" {
		i = i.number(settingsMark).number(uint32(s.KeyRotationDays)).text(s.PostQuantum)
	}
	if s.KeepsPaths {
		i = i.number(pathsMark)
	}
	return i.sum()
}

// Marks stand before fields that are hashed only when they say something. No length of a text is as great.
const (
	nextKeyMark  = 0xffff_ff00 + 'k'
	settingsMark = 0xffff_ff00 + 's'
	termMark     = 0xffff_ff00 + 't'
	pathsMark    = 0xffff_ff00 + 'p'
)

// An item collects the bytes under a hash. The array keeps most items off the heap.
type item struct {
	bytes []byte
}

func newItem(kind byte) item {
	return item{append(make([]byte, 0, 320), kind)}
}

func (i item) number(n uint32) item {
	return item{binary.BigEndian.AppendUint32(i.bytes, n)}
}

// flags is a number with a bit for each.
func (i item) flags(flags ...bool) item {
	var n uint32
	for at, set := range flags {
		if set {
			n |= 1 << at
		}
	}
	return i.number(n)
}

func (i item) text(fields ...string) item {
	b := i.bytes
	for _, field := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return item{b}
}

func (i item) sum() Digest {
	hash := sha256.Sum256(i.bytes)
	return Digest{binary.BigEndian.Uint64(hash[:8]), binary.BigEndian.Uint64(hash[8:16])}
}
