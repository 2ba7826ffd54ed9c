package posture

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A version is what can be compared of a version text:
//
//	v6.1.0-rc.2+build
//	 |     |    +---- does not count
//	 |     +--------- a release candidate: below the release itself (SemVer 2.0.0, section 11)
//	 +--------------- up to four numbers; what is left out counts as 0
type version struct {
	numbers [4]int
	before  []string
}

// parseVersion reads the numbers at the begin of a text and what stands behind
// a hyphen. ok is false for a text that begins with no number, such as that of
// a development build.
func parseVersion(text string) (v version, ok bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "+")
	core, before, _ := strings.Cut(text, "-")
	if before != "" {
		v.before = strings.Split(before, ".")
	}
	for i, part := range strings.SplitN(core, ".", len(v.numbers)) {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			return v, i > 0
		}
		v.numbers[i] = n
		if digits != part { // 5.10rc or the fifth number
			break
		}
	}
	return v, true
}

// below reports whether v comes before o.
func (v version) below(o version) bool {
	if order := slices.Compare(v.numbers[:], o.numbers[:]); order != 0 {
		return order < 0
	}
	if len(v.before) == 0 || len(o.before) == 0 {
		return len(v.before) > 0 && len(o.before) == 0
	}
	return slices.CompareFunc(v.before, o.before, compareIdentifiers) < 0
}

// compareIdentifiers orders numbers before words, numbers by value and words by
// their letters.
func compareIdentifiers(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(x, y)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}
