// Package label writes host names as DNS labels.
package label

import "strings"

// longest is the most characters of a label: RFC 1035, section 2.3.4.
const longest = 63

// Of writes a name in lower-case letters, digits and inner hyphens, the form of
// RFC 1035, section 2.3.1, at most 63 characters. A host name that is a full
// domain name gives its first label; a name without letter or digit gives
// "peer".
func Of(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(name)), ".")
	label := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, name)
	if label = strings.Trim(label[:min(len(label), longest)], "-"); label == "" {
		return "peer"
	}
	return label
}
