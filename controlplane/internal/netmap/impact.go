package netmap

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring"
)

// An Impact is what lies between two pictures. A pair is an end that opens traffic and one that receives it.
type Impact struct {
	Gained, Lost, Changed Pairs
}

// Pairs is a number of pairs with a few of them.
type Pairs struct {
	Count  uint64
	Sample []Pair
}

// A Pair is an end that may open traffic to another, and which, before and after, as lists such as tcp/22 and icmp.
type Pair struct {
	Source, Destination End
	Before, After       []string
}

// Compare tells which pairs gained all of their access, lost all of it, or have another one, with at most sample pairs of
// each. Nothing is looked at pair by pair: peers that stood in one class and stand in one class share the answer, and so
// do the ends that the same rules hold.
func Compare(before, after *Picture, sample int) Impact {
	d := comparison{before: before, after: after, sample: sample}
	for _, group := range d.groups() {
		was, is := group.was, group.is
		d.side(group.peers, was.out, is.out, false)
		d.side(group.peers, was.back, is.back, true)
	}
	return d.impact
}

// A comparison is Compare under way.
type comparison struct {
	before, after *Picture
	sample        int
	impact        Impact
}

// An outlookGroup is all peers with the same outlook before and the same after.
type outlookGroup struct {
	was, is *outlook
	peers   *roaring.Bitmap
}

// nothing is the outlook of a peer that is not there.
var nothing = &outlook{}

func (d *comparison) groups() []outlookGroup {
	type key struct{ was, is *outlook }
	groups := map[key]*roaring.Bitmap{}
	note := func(n uint32) {
		k := key{cmp.Or(d.before.outlooks[n], nothing), cmp.Or(d.after.outlooks[n], nothing)}
		if groups[k] == nil {
			groups[k] = roaring.New()
		}
		groups[k].Add(n)
	}
	for n := range d.before.outlooks {
		note(n)
	}
	for n := range d.after.outlooks {
		note(n)
	}
	list := make([]outlookGroup, 0, len(groups))
	for k, peers := range groups {
		list = append(list, outlookGroup{k.was, k.is, peers})
	}
	slices.SortFunc(list, func(a, b outlookGroup) int { return cmp.Compare(a.peers.Minimum(), b.peers.Minimum()) })
	return list
}

// side compares the grants of a group in one direction.
func (d *comparison) side(peers *roaring.Bitmap, was, is []grant, back bool) {
	if slices.EqualFunc(was, is, func(a, b grant) bool {
		return a.drop == b.drop && a.protocol == b.protocol && slices.Equal(a.ports, b.ports) && a.ends.Equals(b.ends)
	}) {
		return
	}
	for _, part := range split(was, is) {
		old, now := accessOf(part.was), accessOf(part.is)
		var into *Pairs
		switch {
		case old.equal(now):
			continue
		case old.none():
			into = &d.impact.Gained
		case now.none():
			into = &d.impact.Lost
		default:
			into = &d.impact.Changed
		}
		into.Count += peers.GetCardinality()*part.ends.GetCardinality() - peers.AndCardinality(part.ends)
		d.take(into, peers, part.ends, old.texts(), now.texts(), back)
	}
}

// take adds pairs to the sample, one for each peer before a second one of a peer.
func (d *comparison) take(into *Pairs, peers, ends *roaring.Bitmap, old, now []string, back bool) {
	for far := ends.Iterator(); far.HasNext() && len(into.Sample) < d.sample; {
		other := far.Next()
		for near := peers.Iterator(); near.HasNext() && len(into.Sample) < d.sample; {
			n := near.Next()
			if n == other {
				continue
			}
			pair := Pair{Source: d.end(n), Destination: d.end(other), Before: old, After: now}
			if back {
				pair.Source, pair.Destination = pair.Destination, pair.Source
			}
			into.Sample = append(into.Sample, pair)
		}
	}
}

func (d *comparison) end(n uint32) End {
	if end, known := d.after.ends[n]; known {
		return end
	}
	return d.before.ends[n]
}

// An endPart is ends that the same grants hold.
type endPart struct {
	ends    *roaring.Bitmap
	was, is []grant
}

// split divides all ends that any grant holds by which of them do.
func split(was, is []grant) []endPart {
	all := roaring.New()
	for _, g := range slices.Concat(was, is) {
		all.Or(g.ends)
	}
	parts := []endPart{{ends: all}}
	for _, side := range []struct {
		grants []grant
		into   func(*endPart, grant)
	}{
		{was, func(p *endPart, g grant) { p.was = append(slices.Clip(p.was), g) }},
		{is, func(p *endPart, g grant) { p.is = append(slices.Clip(p.is), g) }},
	} {
		for _, g := range side.grants {
			var next []endPart
			for _, p := range parts {
				inside := roaring.And(p.ends, g.ends)
				if outside := roaring.AndNot(p.ends, g.ends); !outside.IsEmpty() {
					next = append(next, endPart{outside, p.was, p.is})
				}
				if !inside.IsEmpty() {
					p.ends = inside
					side.into(&p, g)
					next = append(next, p)
				}
			}
			parts = next
		}
	}
	slices.SortFunc(parts, func(a, b endPart) int { return cmp.Compare(a.ends.Minimum(), b.ends.Minimum()) })
	return parts
}
