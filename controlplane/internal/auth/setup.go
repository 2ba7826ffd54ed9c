package auth

import (
	"crypto/subtle"
	"net/netip"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// SetupTokenPrefix begins the token that allows the first owner to be made.
const SetupTokenPrefix = "wto_"

// CheckSetup decides whether a caller may set up an installation that has no
// owner yet. On a public listener the first to come would own it, so there the
// operator's setup token is asked for. It returns a problem of kind
// unauthenticated or rate-limited.
func (a *Authenticator) CheckSetup(authorization string, remote netip.Addr) error {
	if a.setupToken == nil {
		return nil
	}
	_, credential, _ := strings.Cut(authorization, " ")
	digest := Digest(strings.TrimSpace(credential))
	if subtle.ConstantTimeCompare(digest[:], a.setupToken[:]) == 1 {
		return nil
	}
	return a.Refused(remote, problem.Unauthenticated(problem.KindUnauthenticated,
		"this server listens on a public address and asks for the setup token that it printed at its start; send it as \"Authorization: Token "+SetupTokenPrefix+"...\""))
}
