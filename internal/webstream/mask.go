package webstream

import "crypto/subtle"

// keystreamSize is how much is masked by one call of subtle.XORBytes, which
// works on whole vectors.
const keystreamSize = 2 << 10

// A mask is XOR with a key of four bytes over and over (RFC 6455, section 5.3).
// The zero value changes nothing.
type mask struct {
	on     bool
	at     int // bytes of the frame so far, modulo 4
	stream [keystreamSize + 4]byte
}

// set begins a frame of that length. A key of zeros is no mask.
func (m *mask) set(key [4]byte, length uint64) {
	m.at, m.on = 0, key != [4]byte{}
	if !m.on {
		return
	}
	filled := copy(m.stream[:], key[:])
	for wanted := min(length+4, uint64(len(m.stream))); uint64(filled) < wanted; {
		filled += copy(m.stream[filled:wanted], m.stream[:filled])
	}
}

// apply writes src to dst, masked or unmasked. Both have the same length, and
// are the same memory or do not overlap.
func (m *mask) apply(dst, src []byte) {
	if !m.on {
		if len(src) > 0 && &dst[0] != &src[0] {
			copy(dst, src)
		}
		return
	}
	for len(src) > 0 {
		n := min(len(src), keystreamSize)
		subtle.XORBytes(dst[:n], src[:n], m.stream[m.at:m.at+n])
		dst, src, m.at = dst[n:], src[n:], (m.at+n)%4
	}
}
