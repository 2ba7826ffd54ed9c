package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A field is where a setting is kept, and what kind of value it is.
type field interface {
	String() string
	parse(value string) error
	kind() string

	// json is the value as the settings file holds it.
	json() any
}

type text string

func (t *text) String() string           { return string(*t) }
func (t *text) parse(value string) error { *t = text(value); return nil }
func (*text) kind() string               { return "text" }
func (t *text) json() any                { return string(*t) }

type toggle bool

func (t *toggle) String() string { return strconv.FormatBool(bool(*t)) }
func (*toggle) kind() string     { return "bool" }
func (t *toggle) json() any      { return bool(*t) }

func (t *toggle) parse(value string) error {
	switch strings.ToLower(value) {
	case "true", "on", "yes", "1":
		*t = true
	case "false", "off", "no", "0":
		*t = false
	default:
		return fmt.Errorf("%q is neither on nor off", value)
	}
	return nil
}

type number struct {
	at          *int
	least, most int
}

func (n number) String() string { return strconv.Itoa(*n.at) }
func (number) kind() string     { return "number" }
func (n number) json() any      { return *n.at }

func (n number) parse(value string) error {
	parsed, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("%q is no number", value)
	}
	if parsed < n.least || parsed > n.most {
		return fmt.Errorf("%d is out of range; use %d to %d", parsed, n.least, n.most)
	}
	*n.at = parsed
	return nil
}

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }
func (*list) kind() string     { return "list" }
func (l *list) json() any      { return append([]string{}, *l...) }

func (l *list) parse(value string) error {
	*l = nil
	for each := range strings.SplitSeq(value, ",") {
		if each = strings.TrimSpace(each); each != "" {
			*l = append(*l, each)
		}
	}
	return nil
}

// longestName is the longest name of an interface on Linux (IFNAMSIZ, less its
// last byte); the others allow no less.
const longestName = 15

// longestHostname is the longest name that the contract takes (RFC 1035, section 2.3.4).
const longestHostname = 255

func checkHostname(name string) error {
	if len(name) > longestHostname {
		return fmt.Errorf("the name has %d characters; a host name has at most %d", len(name), longestHostname)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("the name holds control characters")
	}
	return nil
}

func checkInterface(name string) error {
	if name == "" || len(name) > longestName || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r)
	}) {
		return fmt.Errorf("%q cannot be the name of an interface; use at most %d letters and digits, such as wt0", name, longestName)
	}
	return nil
}

func checkPeerPaths(list []string) error {
	for _, each := range list {
		name, mode, _ := strings.Cut(each, "=")
		if name == "" || !slices.Contains(PeerModes, mode) {
			return fmt.Errorf("%q is no NAME=MODE; the modes are %s", each, oneOf(PeerModes))
		}
	}
	return nil
}

func checkTransports(names []string) error {
	for _, name := range names {
		if !slices.Contains(Transports, name) {
			return fmt.Errorf("%q is unknown; use %s", name, strings.Join(Transports, ", "))
		}
	}
	return nil
}
