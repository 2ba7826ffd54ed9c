package mapstate

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
)

// listBelow is the number of members from which a set travels as a bitmap; below it a list is shorter.
const listBelow = 16

// maxOrdinal bounds what a bitmap may name, so that a few bytes from the network cannot stand for billions of members.
const maxOrdinal = 1<<24 - 1

// EncodeOrdinals writes a set for the wire: a list when it has fewer than 16 members, else a roaring bitmap in its
// portable serialisation.
func EncodeOrdinals(set *roaring.Bitmap) (api.Ordinals, error) {
	if set.GetCardinality() < listBelow {
		list := set.ToArray()
		if list == nil {
			list = []uint32{}
		}
		return api.Ordinals{List: &list}, nil
	}
	compact := set.Clone()
	compact.RunOptimize()
	raw, err := compact.ToBytes()
	if err != nil {
		return api.Ordinals{}, fmt.Errorf("encode a set of %d members: %w", set.GetCardinality(), err)
	}
	return api.Ordinals{Bitmap: &raw}, nil
}

// DecodeOrdinals reads a set from the wire. Nil, and an object without fields, is the empty set. Ordinals above 2^24-1
// and bitmaps that do not hold together are refused.
func DecodeOrdinals(ordinals *api.Ordinals) (*roaring.Bitmap, error) {
	switch {
	case ordinals == nil:
		return roaring.New(), nil
	case ordinals.List != nil && ordinals.Bitmap != nil:
		return nil, errors.New("a set is a list or a bitmap, not both")
	case ordinals.List != nil:
		set := roaring.BitmapOf(*ordinals.List...)
		if !set.IsEmpty() && set.Maximum() > maxOrdinal {
			return nil, fmt.Errorf("the ordinal %d is above %d", set.Maximum(), maxOrdinal)
		}
		return set, nil
	case ordinals.Bitmap != nil:
		return decodeBitmap(*ordinals.Bitmap)
	}
	return roaring.New(), nil
}

// decodeBitmap builds a fresh bitmap from the values it reads, because the library takes malformed containers as they
// are and fails on a later use of them.
func decodeBitmap(raw []byte) (set *roaring.Bitmap, err error) {
	defer func() {
		if recover() != nil {
			set, err = nil, errors.New("the bitmap of a set is malformed")
		}
	}()
	read := roaring.New()
	used, err := read.FromUnsafeBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("read the bitmap of a set: %w", err)
	}
	if used != int64(len(raw)) {
		return nil, fmt.Errorf("the bitmap of a set has %d bytes too many", int64(len(raw))-used)
	}
	set = roaring.New()
	values := read.Iterator()
	for next := int64(0); values.HasNext(); next++ {
		value := values.Next()
		if int64(value) < next || value > maxOrdinal {
			return nil, fmt.Errorf("the bitmap of a set is out of order or above %d", maxOrdinal)
		}
		next = int64(value)
		set.Add(value)
	}
	set.RunOptimize()
	return set, nil
}
