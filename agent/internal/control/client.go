// Package control holds the agent's session with the control plane.
//
//	enrol ---> peer id
//	stream --> hello, then the map as deltas or as a snapshot, signals, commands
//	blobs  --> parts of a snapshot, in parallel, by SHA-256
//	signal, status <-- small posts
package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// tokenLife is the life of an agent token: what the contract allows, less what
// the clocks may differ.
const tokenLife = 4 * time.Minute

// maxBlob bounds a compressed part of a snapshot.
const maxBlob = 64 << 20

// ClientConfig says which control plane to talk to and as whom.
type ClientConfig struct {
	Logger    *slog.Logger // required
	UserAgent string       // required

	// Identity is this machine. Before enrolment it needs keys, URL and pin.
	Identity *identity.Identity // required

	// Now is the clock of this machine; nil is time.Now.
	Now func() time.Time

	// Resolver finds the control plane; nil is the system's.
	Resolver *net.Resolver
}

// A Client calls the control plane as this machine.
type Client struct {
	identity  identity.Identity
	agent     string // user agent
	api       *sdk.Client
	transport *transport
	clock     *clock
}

// NewClient sends nothing. The error tells what is wrong with URL or pin.
func NewClient(c ClientConfig) (*Client, error) {
	if c.Logger == nil || c.Identity == nil || c.UserAgent == "" {
		return nil, errors.New("control: logger, user agent and identity are required")
	}
	client := &Client{identity: *c.Identity, agent: c.UserAgent, clock: &clock{own: c.Now}}
	carrier, err := newTransport(c.Identity.ManagementURL, c.Identity.CAPin, client.clock, c.Resolver)
	if err != nil {
		return nil, err
	}
	client.transport = carrier
	client.api, err = sdk.New(sdk.Config{
		URL:         c.Identity.ManagementURL,
		TokenSource: client.token,
		HTTPClient:  &http.Client{Transport: carrier},
		UserAgent:   c.UserAgent,
		Logger:      c.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return client, nil
}

// As returns a client for the same control plane with the identity that
// enrolment made, on the same connections.
func (c *Client) As(i *identity.Identity) (*Client, error) {
	next := &Client{identity: *i, agent: c.agent, transport: c.transport, clock: c.clock}
	var err error
	next.api, err = sdk.New(sdk.Config{
		URL: i.ManagementURL, TokenSource: next.token, HTTPClient: &http.Client{Transport: c.transport}, UserAgent: c.agent,
	})
	return next, err
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// ClockOffset returns what must be added to this machine's clock to get the
// control plane's; zero while they agree to within a few seconds.
func (c *Client) ClockOffset() time.Duration { return time.Duration(c.clock.offset.Load()) }

// token signs an agent token (RFC 7523, section 3).
func (c *Client) token(context.Context) (string, error) {
	now := c.clock.now()
	return c.sign(jwt.Claims{
		Issuer: c.identity.PeerID, Subject: c.identity.PeerID, Audience: jwt.Audience{c.identity.Issuer},
		ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	})
}

// sign makes a JWT with the machine key out of claims.
func (c *Client) sign(claims ...any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: c.identity.MachineKey.Private()},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign with the machine key: %w", err)
	}
	builder := jwt.Signed(signer)
	for _, part := range claims {
		builder = builder.Claims(part)
	}
	text, err := builder.Serialize()
	if err != nil {
		return "", fmt.Errorf("sign with the machine key: %w", err)
	}
	return text, nil
}

// proof is what the machine key signs at enrolment beside the times.
type proof struct {
	MachineKey     string `json:"machine_key"`
	WireGuardKey   string `json:"wireguard_key"`
	SetupKeySHA256 string `json:"setup_key_sha256"`
}

// Enroll turns a setup key into a peer, with further DNS labels if the key
// allows them. The same call again answers with the same peer. A clock that is
// off costs one more attempt.
func (c *Client) Enroll(ctx context.Context, setupKey string, labels []string, facts api.MachineFacts) (*api.EnrollResult, error) {
	result, err := c.enroll(ctx, setupKey, labels, facts)
	if sdk.IsClockSkew(err) && c.ClockOffset() != 0 {
		return c.enroll(ctx, setupKey, labels, facts)
	}
	return result, err
}

func (c *Client) enroll(ctx context.Context, setupKey string, labels []string, facts api.MachineFacts) (*api.EnrollResult, error) {
	sum := sha256.Sum256([]byte(setupKey))
	p := proof{
		MachineKey:     c.identity.MachineKey.Public(),
		WireGuardKey:   c.identity.WireGuardKey.Public().String(),
		SetupKeySHA256: hex.EncodeToString(sum[:]),
	}
	now := c.clock.now()
	signed, err := c.sign(p, jwt.Claims{ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife))})
	if err != nil {
		return nil, err
	}
	request := api.EnrollRequest{SetupKey: setupKey, MachineKey: p.MachineKey, WireguardKey: p.WireGuardKey, Proof: signed, Facts: facts}
	if len(labels) > 0 {
		request.ExtraDnsLabels = &labels
	}
	return c.api.EnrollAgent(ctx, request)
}

// Withdraw deletes this peer. A clock that is off costs one more attempt.
func (c *Client) Withdraw(ctx context.Context) error {
	err := c.api.WithdrawAgent(ctx)
	if sdk.IsClockSkew(err) && c.ClockOffset() != 0 {
		return c.api.WithdrawAgent(ctx)
	}
	return err
}

// SetKey says which WireGuard key this machine uses, and which one it will use
// next, in base64; next is empty for none. The error is sdk.IsConflict when the control
// plane has not been told of key as the next one. A clock that is off costs one
// more attempt.
func (c *Client) SetKey(ctx context.Context, key, next string) error {
	keys := api.AgentKeys{Key: key}
	if next != "" {
		keys.Next = &next
	}
	err := c.api.SetAgentKey(ctx, keys)
	if sdk.IsClockSkew(err) && c.ClockOffset() != 0 {
		return c.api.SetAgentKey(ctx, keys)
	}
	return err
}

// Signal passes a sealed message to a peer. The error is sdk.IsPeerOffline when
// the peer holds no stream.
func (c *Client) Signal(ctx context.Context, to string, box []byte) error {
	return c.api.SignalAgent(ctx, api.SignalRequest{To: to, Box: box})
}

func (c *Client) report(ctx context.Context, r api.StatusReport) error {
	return c.api.ReportAgent(ctx, r)
}

func (c *Client) stream(ctx context.Context, o sdk.StreamAgentOptions) iter.Seq2[api.AgentEvent, error] {
	return c.api.StreamAgent(once(ctx), o)
}

// Reach asks the control plane for anything at all: nil means that it answers
// and that its certificate is the right one.
func (c *Client) Reach(ctx context.Context) error {
	_, err := c.api.GetInstance(once(ctx))
	if _, answered := sdk.AsProblem(err); answered {
		return nil
	}
	return err
}

// blob reads a compressed part of a snapshot.
func (c *Client) blob(ctx context.Context, sha256 string) (raw []byte, err error) {
	body, err := c.api.GetBlob(ctx, sha256)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := body.Close(); err == nil {
			err = closeErr
		}
	}()
	raw, err = io.ReadAll(io.LimitReader(body, maxBlob+1))
	if err == nil && len(raw) > maxBlob {
		err = fmt.Errorf("the part %s of a snapshot is larger than %d bytes", sha256, maxBlob)
	}
	return raw, err
}
