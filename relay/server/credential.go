package server

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // TURN REST credentials are HMAC-SHA1 by definition; coturn computes the same
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pion/turn/v3"
)

// Realm is what the relay answers in REALM (RFC 8489, section 14.9) and what
// long-term keys are derived from.
const Realm = "wattle"

// Errors of a user name that the relay does not accept. Both are told to the
// client as 401 (RFC 8489, section 9.2.4); they differ in the counters only.
var (
	ErrMalformedUsername = errors.New("user name is not <unix-expiry>:<account>.<peer>")
	ErrCredentialExpired = errors.New("credential has expired")
)

// A Secret is the key that the control plane and its relays share. It does not
// print.
type Secret []byte

// MinSecret is the length in bytes of the shortest secret that is accepted: a
// shorter one could be guessed from one captured packet.
const MinSecret = 16

// ReadSecret reads the secret in file, without blanks around it. The error names
// the file when it cannot be read or holds fewer than MinSecret bytes. A file that
// every user of the host can read is used, and logged.
func ReadSecret(file string, logger *slog.Logger) (Secret, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read the secret: %w", err)
	}
	if about, err := os.Stat(file); err == nil && about.Mode().Perm()&0o004 != 0 && runtime.GOOS != "windows" {
		logger.Warn("every user of this host can read the secret of the relay; take that from them with chmod o-r", "path", file, "mode", about.Mode().Perm().String())
	}
	secret := bytes.TrimSpace(text)
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("the secret in %s has %d bytes, it needs %d or more", file, len(secret), MinSecret)
	}
	return secret, nil
}

func (Secret) String() string       { return "(secret)" }
func (Secret) GoString() string     { return "(secret)" }
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// A Holder is the peer that a credential was made for.
type Holder struct {
	Account string
	Peer    string
}

// A Credential lets one peer make allocations until it expires, in the form
// that the TURN REST API made common, so any TURN server that knows the same
// secret accepts it as well:
//
//	user name  <unix-expiry>:<account id>.<peer id>
//	password   base64(HMAC-SHA1(secret, user name))
type Credential struct {
	Username string
	Password string
}

// NewCredential makes the credential of holder that expires at expires, whole
// seconds.
func NewCredential(secret Secret, holder Holder, expires time.Time) Credential {
	username := fmt.Sprintf("%d:%s.%s", expires.Unix(), holder.Account, holder.Peer)
	return Credential{Username: username, Password: password(secret, username)}
}

func password(secret Secret, username string) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(username)) // a hash never fails to write
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// parseUsername takes a user name apart and checks its expiry against now. It
// returns ErrMalformedUsername or ErrCredentialExpired. It proves nothing: who
// holds the password shows in MESSAGE-INTEGRITY.
func parseUsername(username string, now time.Time) (Holder, error) {
	stamp, identity, found := strings.Cut(username, ":")
	if !found {
		return Holder{}, ErrMalformedUsername
	}
	account, peer, found := strings.Cut(identity, ".")
	if !found || account == "" || peer == "" {
		return Holder{}, ErrMalformedUsername
	}
	expiry, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return Holder{}, ErrMalformedUsername
	}
	if now.Unix() >= expiry {
		return Holder{}, ErrCredentialExpired
	}
	return Holder{Account: account, Peer: peer}, nil
}

// longTermKey derives the key of MESSAGE-INTEGRITY (RFC 8489, section 9.2.2).
func longTermKey(secret Secret, username string) []byte {
	return turn.GenerateAuthKey(username, Realm, password(secret, username))
}
