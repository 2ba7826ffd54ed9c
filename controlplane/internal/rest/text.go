package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding/json passes over three faults and keeps something else than was sent:
// bytes that are no UTF-8, halves of surrogate pairs, and members that are given
// twice (RFC 8259, sections 8.1, 8.2 and 4). What a body says must come back, so
// they are refused.

// unreadable returns where a JSON text has a character that no Unicode text can
// hold; -1 for nowhere.
func unreadable(raw []byte) int {
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '\\' && raw[i+1] == 'u': // the text is JSON, so four digits follow
			n := escaped(raw[i:])
			if n == 0 {
				return i
			}
			i += n
		case c == '\\':
			i += 2
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(raw[i:])
			if r == utf8.RuneError && n == 1 {
				return i
			}
			i += n
		}
	}
	return -1
}

// escaped returns how long the escaped character is with which text begins; 0 for
// a half of a surrogate pair.
func escaped(text []byte) int {
	const one = len(`\uffff`)
	half := func(text []byte) rune {
		if len(text) < one || text[0] != '\\' || text[1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(text[2:one]), 16, 16)
		return rune(n)
	}
	first := half(text)
	switch {
	case !utf16.IsSurrogate(first):
		return one
	case utf16.DecodeRune(first, half(text[one:])) == utf8.RuneError:
		return 0
	}
	return 2 * one
}

// givenTwice returns the path of a member that an object of a JSON text has twice;
// empty for none.
func givenTwice(raw []byte) string {
	found := twice(json.NewDecoder(bytes.NewReader(raw)))
	return strings.TrimPrefix(strings.Join(found, ""), ".")
}

// twice reads the next value and returns the steps that lead to a member that is
// there twice. Errors of the decoder do not occur: the text was found to be JSON.
func twice(text *json.Decoder) (steps []string) {
	next, _ := text.Token()
	switch next {
	case json.Delim('['):
		for i := 0; text.More(); i++ {
			if below := twice(text); below != nil {
				return slices.Insert(below, 0, fmt.Sprintf("[%d]", i))
			}
		}
	case json.Delim('{'):
		seen := map[string]bool{}
		for text.More() {
			name, _ := text.Token()
			member, _ := name.(string)
			if seen[member] {
				return []string{"." + member}
			}
			seen[member] = true
			if below := twice(text); below != nil {
				return slices.Insert(below, 0, "."+member)
			}
		}
	default:
		return nil
	}
	_, _ = text.Token() // the bracket that closes it
	return nil
}
