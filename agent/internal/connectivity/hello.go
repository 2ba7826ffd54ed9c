package connectivity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
)

const (
	maximumCandidates = 32
	maximumCredential = 256 // characters of ufrag and password (RFC 8839, section 5.4)
	sessionLength     = 32  // hexadecimal digits
)

var errHello = errors.New("malformed hello")

// A hello is the one message that peers exchange about a path. Each side names
// its own attempt; the first hello that names the other's attempt too makes
// the two one. There are no offers and answers, so both sides may begin at the
// same moment.
//
//	A: hello{session a}            ->  B joins a with its own attempt b
//	A: joins b  <-  hello{session b, answers a}
//	A: hello{session a, answers b} ->  more candidates, a new relayed address
type hello struct {
	// Session names the sender's attempt; Answers the receiver's attempt that
	// the sender has joined, empty while it knows none. A hello without a session
	// is about keys alone.
	Session string `json:"session,omitempty"`
	Answers string `json:"answers,omitempty"`

	// Ufrag and Password of the sender's ICE agent (RFC 8445, section 5.3).
	// Empty when the sender takes no direct path.
	Ufrag    string `json:"ufrag,omitempty"`
	Password string `json:"password,omitempty"`

	// Candidates as RFC 8839, section 5.1 writes them.
	Candidates []string `json:"candidates,omitempty"`

	// Relayed is the sender's relayed address; the zero value: it has none yet.
	Relayed netip.AddrPort `json:"relayed,omitzero"`

	// Access of the sender, empty while it does not know: with its own the
	// receiver can say why there is no direct path.
	Access Access `json:"access,omitempty"`

	// Keys is the exchange of a post-quantum secret; nil of an agent that knows
	// none.
	Keys *postquantum.Message `json:"post_quantum,omitempty"`
}

func (h *hello) encode() ([]byte, error) { return json.Marshal(h) } //nolint:gosec // the password of an ICE agent is for the peer, and travels sealed

// decodeHello checks every bound, so that what follows may trust the lengths.
func decodeHello(raw []byte) (*hello, error) {
	var h hello
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	switch {
	case !isSession(h.Session) && (h.Session != "" || h.Keys == nil), h.Answers != "" && !isSession(h.Answers):
		return nil, fmt.Errorf("%w: session", errHello)
	case len(h.Ufrag) > maximumCredential, len(h.Password) > maximumCredential, (h.Ufrag == "") != (h.Password == ""):
		return nil, fmt.Errorf("%w: credential", errHello)
	case len(h.Candidates) > maximumCandidates:
		return nil, fmt.Errorf("%w: %d candidates, at most %d", errHello, len(h.Candidates), maximumCandidates)
	}
	if h.Keys != nil {
		if err := h.Keys.Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", errHello, err)
		}
	}
	if !slices.Contains(accesses, h.Access) {
		h.Access = AccessUnknown // of a later release
	}
	return &h, nil
}

func isSession(text string) bool {
	if len(text) != sessionLength {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
