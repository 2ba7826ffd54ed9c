package netmap

import (
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"
)

// CheckPut says that a posture check exists, and about which programs it asks. Nobody meets a new one.
type CheckPut struct{ Check Check }

// CheckRemove says that a posture check is gone; nobody meets it any more. An unknown id changes nothing.
type CheckRemove struct{ ID string }

// PostureBits says which peers meet a check now and which do not; the others stay as they are.
type PostureBits struct {
	Check string
	// Pass and Fail hold peer ids.
	Pass, Fail []string
}

func (CheckPut) change()    {}
func (CheckRemove) change() {}
func (PostureBits) change() {}

// A Check is what the map needs to know of a posture check. What it demands is judged elsewhere: here it is one bit for
// each peer.
type Check struct {
	ID string
	// Processes are the programs of which the peers concerned shall tell whether they run.
	Processes []string
}

// A check is a posture check with the peers that meet it.
type check struct {
	id string
	// known is false while rules name a check that does not exist.
	known     bool
	processes []string
	passing   *roaring.Bitmap
	// parts are the bases that hold those only who meet it.
	parts map[*base]struct{}
}

// filterMark stands between the name of a base and the checks that its part meets: "g:web~c1+c2".
const filterMark = "~"

// filtered are the names of the parts of the bases that meet all of the checks.
func filtered(names, checks []string) []string {
	if len(checks) == 0 {
		return names
	}
	suffix := filterMark + strings.Join(slices.Compact(slices.Sorted(slices.Values(checks))), "+")
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name + suffix
	}
	slices.Sort(parts)
	return parts
}

// checkOf returns the check of that id and makes it when there is none.
func (e *Engine) checkOf(id string) *check {
	c := e.checks[id]
	if c == nil {
		c = &check{id: id, passing: roaring.New(), parts: map[*base]struct{}{}}
		e.checks[id] = c
	}
	return c
}

func (e *Engine) forgetCheck(c *check) {
	if !c.known && len(c.parts) == 0 {
		delete(e.checks, c.id)
	}
}

// filter makes a base the part of whole that meets the checks, which are ids between plus signs.
func (e *Engine) filter(part, whole *base, checks string) {
	part.whole = whole
	if whole.parts == nil {
		whole.parts = map[*base]struct{}{}
	}
	whole.parts[part] = struct{}{}
	part.members = whole.members.Clone()
	for id := range strings.SplitSeq(checks, "+") {
		c := e.checkOf(id)
		c.parts[part] = struct{}{}
		part.checks = append(part.checks, c)
		part.members.And(c.passing)
	}
}

// unfilter takes a part that is forgotten away from what it was made of.
func (e *Engine) unfilter(part *base) {
	if part.whole == nil {
		return
	}
	for _, c := range part.checks {
		delete(c.parts, part)
		e.forgetCheck(c)
	}
	delete(part.whole.parts, part)
	e.forget(part.whole)
}

// wants reports whether a peer of the whole belongs to the part.
func (b *base) wants(n uint32) bool {
	return b.whole.members.Contains(n) && !slices.ContainsFunc(b.checks, func(c *check) bool { return !c.passing.Contains(n) })
}

// holding appends the parts of a base that hold a peer.
func (b *base) holding(bases []*base, n uint32) []*base {
	for part := range b.parts {
		if part.members.Contains(n) {
			bases = append(bases, part)
		}
	}
	return bases
}

// resift brings the parts of a base up to date with one of its peers, which came or left.
func (b *batch) resift(whole *base, p *peer) {
	if len(whole.parts) == 0 {
		return
	}
	for part := range whole.parts {
		b.sift(part, p)
	}
	b.selves[p] = struct{}{} // it may be asked about other programs
}

// sift brings the membership of one peer in a part up to date.
func (b *batch) sift(part *base, p *peer) {
	changed := false
	if part.wants(p.Ordinal) {
		changed = part.members.CheckedAdd(p.Ordinal)
	} else {
		changed = part.members.CheckedRemove(p.Ordinal)
	}
	if changed {
		b.shift(part, p.Ordinal)
		b.regroup[p] = struct{}{}
	}
}

func (b *batch) putCheck(want Check) {
	c := b.e.checkOf(want.ID)
	c.known = true
	if slices.Equal(c.processes, want.Processes) {
		return
	}
	c.processes = slices.Clone(want.Processes)
	for part := range c.parts {
		b.ask(part)
	}
}

// ask renews what the peers behind a part are asked about, whether they meet its checks or not.
func (b *batch) ask(part *base) {
	for ordinals := part.whole.members.Iterator(); ordinals.HasNext(); {
		b.selves[b.e.ordinals[ordinals.Next()]] = struct{}{}
	}
}

func (b *batch) removeCheck(id string) {
	c := b.e.checks[id]
	if c == nil || !c.known {
		return
	}
	b.putCheck(Check{ID: id})
	c.known = false
	for _, n := range c.passing.ToArray() {
		b.setPosture(c, b.e.ordinals[n], false)
	}
	b.e.forgetCheck(c)
}

func (b *batch) putPosture(bits PostureBits) {
	c := b.e.checkOf(bits.Check)
	for _, id := range bits.Pass {
		b.setPosture(c, b.e.peers[id], true)
	}
	for _, id := range bits.Fail {
		b.setPosture(c, b.e.peers[id], false)
	}
}

func (b *batch) setPosture(c *check, p *peer, pass bool) {
	changed := false
	if pass {
		changed = c.passing.CheckedAdd(p.Ordinal)
	} else {
		changed = c.passing.CheckedRemove(p.Ordinal)
	}
	if !changed {
		return
	}
	for part := range c.parts {
		b.sift(part, p)
	}
}

// forgetPosture clears the bits of a peer that goes; its ordinal will be somebody else's.
func (e *Engine) forgetPosture(n uint32) {
	for _, c := range e.checks {
		c.passing.Remove(n)
	}
}

// asked returns the programs of which a peer shall tell whether they run: those of the checks that stand between it and
// a rule.
func (e *Engine) asked(p *peer) []string {
	if !p.Approved || len(e.checks) == 0 {
		return nil
	}
	var paths []string
	wholes := e.standing(p)
	for _, whole := range wholes {
		for part := range whole.parts {
			if !part.named() {
				continue
			}
			for _, c := range part.checks {
				paths = append(paths, c.processes...)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
