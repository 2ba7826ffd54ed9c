package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// Constants we chose.
const (
	// MaxTokenLife is the longest life of a token that an agent signs.
	MaxTokenLife = 5 * time.Minute

	// clockLeeway is how far the clocks of machine and server may differ. It
	// covers machines without a disciplined clock and is short beside the
	// life of a token.
	clockLeeway = time.Minute

	// maxTokenID bounds jti, so that remembering it costs little.
	maxTokenID = 64
)

// signatureAlgorithms is fixed: nothing in a token chooses how it is verified.
var signatureAlgorithms = []jose.SignatureAlgorithm{jose.EdDSA}

// agent verifies a token that a machine signed (RFC 7523 style): issuer and
// subject are the peer, the audience is this server, jti was not seen before.
func (a *Authenticator) agent(ctx context.Context, token string, now time.Time) (Principal, error) {
	parsed, err := jwt.ParseSigned(token, signatureAlgorithms)
	if err != nil {
		return Principal{}, refuseAgent("it is not a JWT signed with EdDSA")
	}
	var unverified jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unverified); err != nil {
		return Principal{}, refuseAgent("its claims cannot be read")
	}
	key, accountID, err := a.directory.PeerKey(ctx, unverified.Subject)
	if err != nil {
		var p *problem.Problem
		if errors.As(err, &p) && p.Kind == problem.KindNotFound {
			return Principal{}, refuseAgent("the peer is unknown or was removed; enrol the machine again")
		}
		return Principal{}, fmt.Errorf("find the key of a peer: %w", err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(key, &claims); err != nil {
		return Principal{}, refuseAgent("its signature is not of the machine key of that peer")
	}
	peerID := claims.Subject
	switch {
	case claims.Issuer != peerID:
		return Principal{}, refuseAgent("issuer and subject differ")
	case !claims.Audience.Contains(a.issuer):
		return Principal{}, refuseAgent(fmt.Sprintf("it is for another server; this one is %s", a.issuer))
	}
	expires, err := checkTimes(claims, now)
	if err != nil {
		return Principal{}, err
	}
	switch {
	case claims.ID == "" || len(claims.ID) > maxTokenID:
		return Principal{}, refuseAgent(fmt.Sprintf("jti must have 1 to %d characters", maxTokenID))
	case !a.used.claim(peerID+" "+claims.ID, expires, now):
		return Principal{}, refuseAgent("it was used before; sign a new one for each request")
	}
	return Principal{Kind: KindAgent, ID: peerID, AccountID: accountID, PeerID: peerID, Channel: ChannelAgent}, nil
}

func refuseAgent(reason string) error {
	return problem.Unauthenticated(problem.KindUnauthenticated, "the agent token is refused: "+reason)
}

// checkTimes checks iat, exp and nbf against the server's clock and returns
// when the token can be forgotten. A token whose times lie apart tells by how
// much the machine's clock is off, since agents sign right before they send.
func checkTimes(claims jwt.Claims, now time.Time) (expires time.Time, err error) {
	if claims.IssuedAt == nil || claims.Expiry == nil {
		return time.Time{}, refuseAgent("iat and exp must be there")
	}
	issued, expires := claims.IssuedAt.Time(), claims.Expiry.Time()
	switch {
	case expires.Sub(issued) > MaxTokenLife || !expires.After(issued):
		return time.Time{}, refuseAgent(fmt.Sprintf("it must live at most %s", MaxTokenLife))
	case issued.After(now.Add(clockLeeway)):
		return time.Time{}, clockOff("ahead of", issued.Sub(now))
	case expires.Before(now.Add(-clockLeeway)):
		return time.Time{}, clockOff("behind", now.Sub(issued))
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(clockLeeway)):
		return time.Time{}, refuseAgent("it is not valid yet")
	}
	return expires.Add(clockLeeway), nil
}

func clockOff(direction string, by time.Duration) error {
	return problem.Unauthenticated(problem.KindClockSkew, fmt.Sprintf(
		"the clock of this machine is %s %s the clock of the control plane; set it and try again",
		by.Round(time.Second), direction))
}

// A Proof is an enrolment whose signature was verified: whoever sent it holds
// the machine key.
type Proof struct {
	MachineKey     ed25519.PublicKey
	WireGuardKey   [32]byte
	SetupKeySHA256 [sha256.Size]byte
}

// proofClaims is what the proof of an enrolment binds together.
type proofClaims struct {
	jwt.Claims
	MachineKey     string `json:"machine_key"`
	WireGuardKey   string `json:"wireguard_key"`
	SetupKeySHA256 string `json:"setup_key_sha256"`
}

// VerifyEnrolment checks the proof of a request to enrol. It returns a problem
// of kind invalid for keys that are none, unauthenticated for a proof that does
// not belong to the request, and clock-skew. The same proof verifies again, so
// that a machine which lost the answer can repeat the request.
func (a *Authenticator) VerifyEnrolment(request api.EnrollRequest) (Proof, error) {
	machineKey, wireGuardKey, err := enrolmentKeys(request)
	if err != nil {
		return Proof{}, err
	}
	parsed, err := jwt.ParseSigned(request.Proof, signatureAlgorithms)
	if err != nil {
		return Proof{}, refuseProof("it is not a JWT signed with EdDSA")
	}
	var claims proofClaims
	if err := parsed.Claims(machineKey, &claims); err != nil {
		return Proof{}, refuseProof("it is not signed by the machine key")
	}
	if _, err := checkTimes(claims.Claims, time.Now()); err != nil {
		return Proof{}, err
	}
	digest := Digest(request.SetupKey)
	stated, err := hex.DecodeString(claims.SetupKeySHA256)
	switch {
	case claims.MachineKey != request.MachineKey || claims.WireGuardKey != request.WireguardKey:
		return Proof{}, refuseProof("its keys are not those of the request")
	case err != nil || subtle.ConstantTimeCompare(stated, digest[:]) != 1:
		return Proof{}, refuseProof("it is for another setup key")
	}
	return Proof{MachineKey: machineKey, WireGuardKey: wireGuardKey, SetupKeySHA256: digest}, nil
}

func enrolmentKeys(request api.EnrollRequest) (ed25519.PublicKey, [32]byte, error) {
	var faults []problem.FieldError
	machineKey, err := base64.StdEncoding.Strict().DecodeString(request.MachineKey)
	if err != nil || len(machineKey) != ed25519.PublicKeySize {
		faults = append(faults, problem.Field("machine_key", "must be the base64 of 32 bytes"))
	}
	wireGuardKey, err := base64.StdEncoding.Strict().DecodeString(request.WireguardKey)
	if err != nil || len(wireGuardKey) != 32 || [32]byte(wireGuardKey) == [32]byte{} {
		faults = append(faults, problem.Field("wireguard_key", "must be the base64 of a public key of 32 bytes"))
	}
	if len(faults) > 0 {
		return nil, [32]byte{}, problem.Invalid(faults...)
	}
	return machineKey, [32]byte(wireGuardKey), nil
}

func refuseProof(reason string) error {
	return problem.Unauthenticated(problem.KindUnauthenticated, "the proof of the machine key is refused: "+reason)
}
