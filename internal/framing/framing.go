// Package framing is STUN and ChannelData on a stream: frames that follow one
// another without any other framing (RFC 8656, section 12.5).
//
//	| 00xxxxxx type | length | cookie, transaction | attributes … |  STUN
//	| 01xxxxxx channel | length | data … | padding 0..3 |            ChannelData
package framing

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// STUNHeader is the length of the header of a STUN message in bytes (RFC
	// 8489, section 5).
	STUNHeader = 20
	// ChannelHeader is that of ChannelData (RFC 8656, section 12.4). So much of a
	// frame tells its length.
	ChannelHeader = 4
)

// ErrNotTURN says that a stream carries something else, or has lost its framing.
var ErrNotTURN = errors.New("stream does not carry STUN or ChannelData")

// Length returns the length of a frame in bytes, padding included, from its
// first ChannelHeader bytes. It returns ErrNotTURN when no frame begins so.
func Length(head []byte) (int, error) {
	length := int(binary.BigEndian.Uint16(head[2:4]))
	switch head[0] >> 6 {
	case 0:
		if length%4 != 0 {
			return 0, fmt.Errorf("%w: STUN length %d", ErrNotTURN, length)
		}
		return STUNHeader + length, nil
	case 1:
		return ChannelHeader + (length+3)&^3, nil
	default:
		return 0, fmt.Errorf("%w: first byte %#02x", ErrNotTURN, head[0])
	}
}
