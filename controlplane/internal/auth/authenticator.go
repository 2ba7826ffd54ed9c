package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// TokenPrefix begins every access token of a person or a service user.
const TokenPrefix = "wtp_"

// Constants we chose.
const (
	// maxCredential bounds what is looked at: an access token has 40
	// characters, an agent token some 300.
	maxCredential = 4096

	// DefaultFailuresPerMinute lets a person mistype and stops a guesser.
	DefaultFailuresPerMinute = 5
)

// A Directory knows who holds which credential.
type Directory interface {
	// Authenticate returns the holder of the access token with this SHA-256.
	// It returns a problem of kind unauthenticated when the token is unknown,
	// expired or revoked, or when its holder is blocked.
	Authenticate(ctx context.Context, secretSHA256 [sha256.Size]byte) (Principal, error)

	// PeerKey returns the machine key of a peer and the account it is in. It
	// returns a problem of kind not-found for a peer that does not exist.
	PeerKey(ctx context.Context, peerID string) (key ed25519.PublicKey, accountID string, err error)
}

// Config is what an Authenticator needs.
type Config struct {
	// Directory knows the credentials; required.
	Directory Directory

	// Issuer is the audience that agent tokens must name; required.
	Issuer string

	// SetupToken is the SHA-256 of the token without which nobody makes the
	// first owner. Nil asks for none.
	SetupToken *[sha256.Size]byte

	// FailuresPerMinute is how often one address may show bad credentials
	// before the answer becomes 429. Zero means DefaultFailuresPerMinute,
	// a negative value means no limit.
	FailuresPerMinute int
}

// An Authenticator finds out who asks.
type Authenticator struct {
	directory  Directory
	issuer     string
	setupToken *[sha256.Size]byte
	used       *usedTokens
	failures   *failureLimit
}

// New checks config and returns an Authenticator.
func New(config Config) (*Authenticator, error) {
	if config.Directory == nil {
		return nil, errors.New("auth: Directory is missing")
	}
	if config.Issuer == "" {
		return nil, errors.New("auth: Issuer is empty: agent tokens could be used at another server")
	}
	if config.FailuresPerMinute == 0 {
		config.FailuresPerMinute = DefaultFailuresPerMinute
	}
	return &Authenticator{
		directory:  config.Directory,
		issuer:     config.Issuer,
		setupToken: config.SetupToken,
		used:       newUsedTokens(),
		failures:   newFailureLimit(config.FailuresPerMinute),
	}, nil
}

// Authenticate returns the principal that an Authorization header proves. The
// scheme may be Token or Bearer in any case; the prefix of the credential tells
// its kind. It returns a problem of kind unauthenticated, clock-skew or, when
// the address failed too often, rate-limited. Valid credentials are never
// refused for the failures of others at the same address.
func (a *Authenticator) Authenticate(ctx context.Context, authorization string, remote netip.Addr) (Principal, error) {
	principal, err := a.identify(ctx, authorization)
	if err != nil {
		return Principal{}, a.Refused(remote, err)
	}
	return principal, nil
}

func (a *Authenticator) identify(ctx context.Context, authorization string) (Principal, error) {
	if authorization == "" {
		return Principal{}, problem.Unauthenticated(problem.KindUnauthenticated,
			"no credentials; send an access token as \"Authorization: Token wtp_...\"")
	}
	scheme, credential, _ := strings.Cut(authorization, " ")
	credential = strings.TrimSpace(credential)
	if !strings.EqualFold(scheme, "Token") && !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, problem.Unauthenticated(problem.KindUnauthenticated,
			"the authorization scheme is unknown; use Token or Bearer")
	}
	switch {
	case len(credential) > maxCredential:
		return Principal{}, problem.Unauthenticated(problem.KindUnauthenticated, "the credentials are too long to be of this server")
	case strings.HasPrefix(credential, TokenPrefix):
		return a.directory.Authenticate(ctx, Digest(credential))
	case strings.Count(credential, ".") == 2:
		return a.agent(ctx, credential, time.Now())
	default:
		return Principal{}, problem.Unauthenticated(problem.KindUnauthenticated,
			"the credentials are of no known kind; an access token begins with "+TokenPrefix)
	}
}

// Refused counts a refusal against the address and returns what the caller is
// told: err itself, or a rate limit when the address failed too often. Errors
// that do not speak about credentials pass unchanged and uncounted.
func (a *Authenticator) Refused(remote netip.Addr, err error) error {
	var p *problem.Problem
	if !errors.As(err, &p) {
		return err
	}
	switch p.Kind {
	case problem.KindUnauthenticated, problem.KindSetupKey:
		if wait := a.failures.count(remote, time.Now()); wait > 0 {
			return problem.RateLimited(wait)
		}
	}
	return err
}

// Guessed counts, like Refused, a secret in a path that belongs to nothing: the
// path of such a secret is not found.
func (a *Authenticator) Guessed(remote netip.Addr, err error) error {
	var p *problem.Problem
	if errors.As(err, &p) && p.Kind == problem.KindNotFound {
		if wait := a.failures.count(remote, time.Now()); wait > 0 {
			return problem.RateLimited(wait)
		}
	}
	return err
}

// Digest is how a bearer secret is looked up: its SHA-256 (the secrets have
// 178 random bits, so no salt and no slow hash is needed).
func Digest(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }
