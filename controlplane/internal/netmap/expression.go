package netmap

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"
)

// A base is a group, or a single peer that rules name: what sets are made of. It knows everything that depends on it.
type base struct {
	// name is "g:" and a group id, "p:" and a peer id, or "n:" and the id of a resource, which holds no peers; for the
	// part that meets posture checks, these come behind.
	name string
	// members holds ordinals, unapproved peers among them.
	members *roaring.Bitmap

	sets         map[*set]struct{}   // whose members depend on it
	sources      map[*rule]struct{}  // rules with it at their source
	destinations map[*rule]struct{}  // rules with it at their destination
	classes      map[*class]struct{} // classes that stand in it

	// parts are the bases that hold those members only that meet posture checks; nil without. Of a part, whole is where
	// it comes from and checks are what its members meet.
	parts  map[*base]struct{}
	whole  *base
	checks []*check

	// Nil until there is one.
	routes map[*route]struct{} // routes about which the rules with it at an end are
	gets   map[*route]struct{} // routes that its peers get without a rule
	serves map[*route]struct{} // routes whose traffic its peers carry

	zones       map[*zone]struct{}   // DNS zones that its peers know
	nameservers map[*served]struct{} // nameserver groups that its peers ask
	unmanaged   bool                 // its peers get no DNS
}

func groupName(id string) string { return "g:" + id }
func peerName(id string) string  { return "p:" + id }

func newBase(name string) *base {
	return &base{
		name: name, members: roaring.New(),
		sets: map[*set]struct{}{}, sources: map[*rule]struct{}{}, destinations: map[*rule]struct{}{}, classes: map[*class]struct{}{},
	}
}

// named reports whether a rule or a router names the base.
func (b *base) named() bool { return len(b.sources)+len(b.destinations)+len(b.serves) > 0 }

// idle reports whether nothing depends on the base.
func (b *base) idle() bool {
	return !b.named() && !b.unmanaged && len(b.parts) == 0 &&
		len(b.sets)+len(b.classes)+len(b.routes)+len(b.gets)+len(b.zones)+len(b.nameservers) == 0
}

// derived reports a base that peers do not join: a single peer, or the part of a base that meets posture checks.
func (b *base) derived() bool { return b.whole != nil || strings.HasPrefix(b.name, peerName("")) }

func byName(a, b *base) int { return strings.Compare(a.name, b.name) }

// An expression says which approved peers a set holds:
//
//	(any of union) and not (any of minus) and, where within is given, (any of within)
//
// minus holds what all-protocol drops hide; within holds a drop rule's set to peers that are visible anyway.
type expression struct {
	union, minus []*base
	within       []expression
	bounded      bool
}

// difference returns union without minus; ok is false when no peer can ever be in it.
func difference(union []*base, minus map[*base]struct{}) (x expression, ok bool) {
	if len(minus) == 0 {
		return expression{union: union}, len(union) > 0
	}
	for _, b := range union {
		if _, hidden := minus[b]; !hidden {
			x.union = append(x.union, b)
		}
	}
	for b := range minus {
		x.minus = append(x.minus, b)
	}
	slices.SortFunc(x.minus, byName)
	return x, len(x.union) > 0
}

// intersection returns the union held to the peers of within; ok is false when no peer can ever be in it.
func intersection(union []*base, within map[string]expression) (x expression, ok bool) {
	whole := map[*base]struct{}{}
	for _, w := range within {
		if len(w.minus) == 0 && !w.bounded {
			for _, b := range w.union {
				whole[b] = struct{}{}
			}
		}
	}
	inside := !slices.ContainsFunc(union, func(b *base) bool { _, in := whole[b]; return !in })
	if inside {
		return expression{union: union}, len(union) > 0
	}
	x = expression{union: union, bounded: true}
	for _, w := range within {
		x.within = append(x.within, w)
	}
	slices.SortFunc(x.within, func(a, b expression) int { return cmp.Compare(a.key(), b.key()) })
	return x, len(union) > 0 && len(within) > 0
}

// key is equal for equal expressions and for no others.
func (x expression) key() string {
	var parts []string
	if x.bounded {
		for _, w := range x.within {
			parts = append(parts, w.key())
		}
	}
	return expressionKey(names(x.union), names(x.minus), parts)
}

func names(bases []*base) []string {
	list := make([]string, len(bases))
	for i, b := range bases {
		list[i] = b.name
	}
	return list
}

// expressionKey writes sorted names. Ids are made by the server and hold none of the separators.
func expressionKey(union, minus, within []string) string {
	key := strings.Join(union, "|")
	if len(minus) > 0 {
		key += " - " + strings.Join(minus, "|")
	}
	if len(within) > 0 {
		key += " & (" + strings.Join(within, ";") + ")"
	}
	return key
}

// bases adds every base that the expression reads to into.
func (x expression) bases(into map[*base]struct{}) {
	for _, b := range x.union {
		into[b] = struct{}{}
	}
	for _, b := range x.minus {
		into[b] = struct{}{}
	}
	for _, w := range x.within {
		w.bases(into)
	}
}

// holds reports whether an approved peer belongs to the expression.
func (x expression) holds(n uint32) bool {
	holds := func(b *base) bool { return b.members.Contains(n) }
	return slices.ContainsFunc(x.union, holds) && !slices.ContainsFunc(x.minus, holds) &&
		(!x.bounded || slices.ContainsFunc(x.within, func(w expression) bool { return w.holds(n) }))
}

// members returns all approved peers of the expression.
func (x expression) members(approved *roaring.Bitmap) *roaring.Bitmap {
	all := roaring.New()
	for _, b := range x.union {
		all.Or(b.members)
	}
	all.And(approved)
	for _, b := range x.minus {
		all.AndNot(b.members)
	}
	if x.bounded {
		bound := roaring.New()
		for _, w := range x.within {
			bound.Or(w.members(approved))
		}
		all.And(bound)
	}
	return all
}

// opaque returns an id that says nothing about key and is the same after a restart.
func (c Config) opaque(prefix, key string) string {
	mac := hmac.New(sha256.New, c.Secret)
	mac.Write([]byte(prefix + c.Account + "\x00" + key))
	return prefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:12])
}
