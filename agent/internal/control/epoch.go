package control

import (
	"cmp"
	"strconv"
	"strings"
)

// compareEpochs orders two histories by their first part, a time in
// milliseconds as hexadecimal digits. Epochs of one moment that differ are two
// histories of which neither is older: the result is then 0.
func compareEpochs(a, b string) int {
	if a == b {
		return 0
	}
	first, _, _ := strings.Cut(a, "-")
	second, _, _ := strings.Cut(b, "-")
	x, errX := strconv.ParseUint(first, 16, 64)
	y, errY := strconv.ParseUint(second, 16, 64)
	if errX != nil || errY != nil {
		return strings.Compare(first, second)
	}
	return cmp.Compare(x, y)
}
