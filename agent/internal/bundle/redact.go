package bundle

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A Mode says how much is taken out beside secrets, which always are.
type Mode string

// The modes.
const (
	ModeNone    Mode = "none"    // secrets alone
	ModeDefault Mode = "default" // and public addresses of machines
	ModeStrict  Mode = "strict"  // and every address, name, id and public key
)

// Modes are all modes.
var Modes = []string{string(ModeStrict), string(ModeDefault), string(ModeNone)}

// Known is what a redactor must tell from secrets, or hide.
type Known struct {
	// PublicKeys are keys that are no secrets: any other text of their form is
	// taken for one.
	PublicKeys []string

	// Names are names and ids of machines and networks, hidden in strict mode.
	Names []string

	// Overlay reports addresses of the network, which the default mode leaves.
	Overlay func(netip.Addr) bool
}

// A Redactor takes out what must not be seen. What it hides has the same
// placeholder everywhere, so that a reader can still follow.
type Redactor struct {
	mode   Mode
	public map[string]bool
	names  *regexp.Regexp // nil: none is hidden
	known  Known
	shown  map[string]string // placeholders
	counts map[string]int
}

// NewRedactor makes a redactor; an unknown mode hides everything.
func NewRedactor(mode Mode, known Known) *Redactor {
	r := &Redactor{mode: mode, public: map[string]bool{}, known: known, shown: map[string]string{}, counts: map[string]int{}}
	for _, key := range known.PublicKeys {
		r.public[key] = true
	}
	names := slices.DeleteFunc(slices.Clone(known.Names), func(name string) bool { return name == "" })
	if !r.strict() || len(names) == 0 {
		return r
	}
	// The longest first, so that a full name is not taken for the short one in it.
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = regexp.QuoteMeta(name)
	}
	r.names = regexp.MustCompile(`(?i)\b(` + strings.Join(slices.Compact(names), "|") + `)\b`)
	return r
}

func (r *Redactor) strict() bool { return r.mode != ModeNone && r.mode != ModeDefault }

// patterns are what secrets look like, and addresses.
type patterns struct {
	prefixed, signed, named, userinfo, keys, blocks, addresses *regexp.Regexp
}

// secrets are compiled when something is to be taken out: every command and the daemon would carry them otherwise.
var secrets = sync.OnceValue(func() patterns {
	return patterns{
		// Setup keys and tokens of ours.
		prefixed: regexp.MustCompile(`\bwt[a-z]{1,3}_[A-Za-z0-9_-]{4,}`),

		// JSON web tokens (RFC 7519, section 3).
		signed: regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`),

		// Values behind a word that means a secret, in JSON, in log lines, in headers and URLs.
		named: regexp.MustCompile(`(?i)((?:pass(?:word|phrase)?|secret|setup[_-]?key|private[_-]?key|machine[_-]?key|preshared[_-]?key|token|credential|authorization|api[_-]?key)"?\s*[:=]\s*"?(?:bearer |token |basic )?)([^\s",}&]+)`),

		// The secret in a URL (RFC 3986, section 3.2.1).
		userinfo: regexp.MustCompile(`(://[^/\s:@]*:)([^/\s@]+)@`),

		// 32 bytes in base64, as WireGuard writes keys.
		keys: regexp.MustCompile(`[A-Za-z0-9+/]{43}=`),

		// PEM (RFC 7468) of whatever is private.
		blocks: regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`),

		addresses: regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b|[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*`),
	}
})

const hidden = "(secret)"

// Text returns a text without what must not be seen.
func (r *Redactor) Text(text string) string {
	look := secrets()
	text = look.blocks.ReplaceAllString(text, hidden)
	text = look.signed.ReplaceAllString(text, hidden)
	text = look.named.ReplaceAllString(text, "${1}"+hidden)
	text = look.prefixed.ReplaceAllString(text, hidden)
	text = look.userinfo.ReplaceAllString(text, "${1}"+hidden+"@")
	text = look.keys.ReplaceAllStringFunc(text, func(key string) string {
		switch {
		case !r.public[key]:
			return hidden
		case r.strict():
			return r.placeholder("key", key)
		}
		return key
	})
	if r.mode == ModeNone {
		return text
	}
	text = look.addresses.ReplaceAllStringFunc(text, r.address)
	if r.names != nil {
		text = r.names.ReplaceAllStringFunc(text, func(name string) string { return r.placeholder("name", strings.ToLower(name)) })
	}
	return text
}

// address hides an address that the mode does not show.
func (r *Redactor) address(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text // a time of day, or part of a longer text
	}
	addr = addr.Unmap()
	harmless := addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast()
	if r.mode == ModeDefault {
		harmless = harmless || addr.IsPrivate() || addr.IsLinkLocalUnicast() || r.known.Overlay != nil && r.known.Overlay(addr)
	}
	if harmless {
		return text
	}
	return r.placeholder("address", addr.String())
}

func (r *Redactor) placeholder(kind, value string) string {
	shown, known := r.shown[kind+" "+value]
	if !known {
		r.counts[kind]++
		shown = fmt.Sprintf("(%s-%d)", kind, r.counts[kind])
		r.shown[kind+" "+value] = shown
	}
	return shown
}
