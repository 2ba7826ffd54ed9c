// Package state holds the desired state of every account and the rules by which it may change.
package state

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/generated/api"
)

var errPending = errors.New("operation is being written")

// A Config says where desired state is kept.
type Config struct {
	Logger *slog.Logger
	// Issuer is the public URL of the control plane: the audience of agent tokens.
	Issuer string
}

// A State holds the desired state of all accounts.
type State struct{}

// New reads desired state from the store.
func New(ctx context.Context, config Config) (*State, error) { return &State{}, nil }

// Run does the timed work until ctx ends; it returns after the last presence batch is written.
func (s *State) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (s *State) GetInstance(ctx context.Context) (r api.Instance, err error) { return r, errPending }
func (s *State) SetupInstance(ctx context.Context, req api.SetupRequest) (r api.SetupResult, err error) {
	return r, errPending
}

// A NewOwner says who the owner of a fresh installation is.
type NewOwner struct {
	Email, Name string
	// Password may be empty: the owner then has tokens only.
	Password string
	// TokenDays is the life of the first token; 0 makes none.
	TokenDays int
}

// A FreshNetwork is what the first start made. Its secrets are shown once.
type FreshNetwork struct {
	UserID, AccountID                       string
	Token, OneOffSetupKey, ReusableSetupKey string
}

// SetUp makes owner, account, group All, the Default policy and two setup keys.
func (s *State) SetUp(ctx context.Context, p auth.Principal, owner NewOwner) (r FreshNetwork, err error) {
	return r, errPending
}

func (s *State) ListAccounts(ctx context.Context, p auth.Principal) (r []api.Account, err error) {
	return r, errPending
}
func (s *State) UpdateAccount(ctx context.Context, p auth.Principal, id string, req api.AccountRequest, ifMatch string) (r api.Account, err error) {
	return r, errPending
}
func (s *State) GetAccountSettings(ctx context.Context, p auth.Principal) (r api.AccountSettings, err error) {
	return r, errPending
}
func (s *State) UpdateAccountSettings(ctx context.Context, p auth.Principal, req api.AccountSettingsRequest, ifMatch string) (r api.AccountSettings, err error) {
	return r, errPending
}
func (s *State) ListUsers(ctx context.Context, p auth.Principal, params api.ListUsersParams) (r []api.User, next string, err error) {
	return r, "", errPending
}
func (s *State) GetCurrentUser(ctx context.Context, p auth.Principal) (r api.CurrentUser, err error) {
	return r, errPending
}
func (s *State) GetUser(ctx context.Context, p auth.Principal, id string) (r api.User, err error) {
	return r, errPending
}
func (s *State) ListTokens(ctx context.Context, p auth.Principal, userID string, params api.ListTokensParams) (r []api.Token, next string, err error) {
	return r, "", errPending
}
func (s *State) CreateToken(ctx context.Context, p auth.Principal, userID string, req api.TokenRequest) (r api.TokenCreated, err error) {
	return r, errPending
}
func (s *State) GetToken(ctx context.Context, p auth.Principal, userID, id string) (r api.Token, err error) {
	return r, errPending
}
func (s *State) DeleteToken(ctx context.Context, p auth.Principal, userID, id string) error {
	return errPending
}
func (s *State) ListGroups(ctx context.Context, p auth.Principal, params api.ListGroupsParams) (r []api.Group, next string, err error) {
	return r, "", errPending
}
func (s *State) CreateGroup(ctx context.Context, p auth.Principal, req api.GroupRequest) (r api.Group, err error) {
	return r, errPending
}
func (s *State) GetGroup(ctx context.Context, p auth.Principal, id string) (r api.Group, err error) {
	return r, errPending
}
func (s *State) UpdateGroup(ctx context.Context, p auth.Principal, id string, req api.GroupRequest, ifMatch string) (r api.Group, err error) {
	return r, errPending
}
func (s *State) DeleteGroup(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return errPending
}
func (s *State) ListGroupMemberships(ctx context.Context, p auth.Principal, groupID string, params api.ListGroupMembershipsParams) (r []api.GroupMembership, next string, err error) {
	return r, "", errPending
}
func (s *State) CreateGroupMembership(ctx context.Context, p auth.Principal, groupID string, req api.GroupMembershipRequest) (r api.GroupMembership, err error) {
	return r, errPending
}
func (s *State) GetGroupMembership(ctx context.Context, p auth.Principal, groupID, peerID string) (r api.GroupMembership, err error) {
	return r, errPending
}
func (s *State) DeleteGroupMembership(ctx context.Context, p auth.Principal, groupID, peerID string) error {
	return errPending
}
func (s *State) ListPolicies(ctx context.Context, p auth.Principal, params api.ListPoliciesParams) (r []api.Policy, next string, err error) {
	return r, "", errPending
}
func (s *State) CreatePolicy(ctx context.Context, p auth.Principal, req api.PolicyRequest) (r api.Policy, err error) {
	return r, errPending
}
func (s *State) GetPolicy(ctx context.Context, p auth.Principal, id string) (r api.Policy, err error) {
	return r, errPending
}
func (s *State) UpdatePolicy(ctx context.Context, p auth.Principal, id string, req api.PolicyRequest, ifMatch string) (r api.Policy, err error) {
	return r, errPending
}
func (s *State) DeletePolicy(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return errPending
}
func (s *State) ListSetupKeys(ctx context.Context, p auth.Principal, params api.ListSetupKeysParams) (r []api.SetupKey, next string, err error) {
	return r, "", errPending
}
func (s *State) CreateSetupKey(ctx context.Context, p auth.Principal, req api.SetupKeyRequest) (r api.SetupKey, err error) {
	return r, errPending
}
func (s *State) GetSetupKey(ctx context.Context, p auth.Principal, id string) (r api.SetupKey, err error) {
	return r, errPending
}
func (s *State) UpdateSetupKey(ctx context.Context, p auth.Principal, id string, req api.SetupKeyUpdate, ifMatch string) (r api.SetupKey, err error) {
	return r, errPending
}
func (s *State) DeleteSetupKey(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return errPending
}
func (s *State) ListPeers(ctx context.Context, p auth.Principal, params api.ListPeersParams) (r []api.Peer, next string, err error) {
	return r, "", errPending
}
func (s *State) GetPeer(ctx context.Context, p auth.Principal, id string) (r api.Peer, err error) {
	return r, errPending
}
func (s *State) UpdatePeer(ctx context.Context, p auth.Principal, id string, req api.PeerRequest, ifMatch string) (r api.Peer, err error) {
	return r, errPending
}
func (s *State) DeletePeer(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return errPending
}
func (s *State) ListAccessiblePeers(ctx context.Context, p auth.Principal, id string) (r []api.AccessiblePeer, err error) {
	return r, errPending
}
func (s *State) ListAuditEvents(ctx context.Context, p auth.Principal, params api.ListAuditEventsParams) (r []api.AuditEvent, next string, err error) {
	return r, "", errPending
}

// Enroll turns a setup key into a peer; the proof of the machine key was verified before.
func (s *State) Enroll(ctx context.Context, p auth.Principal, req api.EnrollRequest, remote netip.Addr) (r api.EnrollResult, err error) {
	return r, errPending
}

// WithdrawAgent removes the calling machine.
func (s *State) WithdrawAgent(ctx context.Context, p auth.Principal) error { return errPending }

// ReportAgent takes the facts of the calling machine.
func (s *State) ReportAgent(ctx context.Context, p auth.Principal, report api.StatusReport, remote netip.Addr) error {
	return errPending
}

// Authenticate finds the holder of an access token by the SHA-256 of its secret.
func (s *State) Authenticate(ctx context.Context, sum [32]byte) (r auth.Principal, err error) {
	return r, errPending
}

// PeerKey returns the machine key and the account of a peer.
func (s *State) PeerKey(ctx context.Context, peerID string) (key ed25519.PublicKey, accountID string, err error) {
	return nil, "", errPending
}

// SetPresence notes that a stream of a peer began or ended.
func (s *State) SetPresence(peerID, sessionID string, connected bool, remote netip.Addr) {}

// Secret returns 32 random bytes that stay the same for the life of the installation, sealed at rest.
func (s *State) Secret(ctx context.Context, name string) (r []byte, err error) {
	return nil, errPending
}

// An Answer is the response of a create that was made with an Idempotency-Key.
type Answer struct {
	Status int
	Body   []byte
	// Secret says that the body holds a secret: it is kept sealed, for ten minutes.
	Secret bool
}

// A Claim is the right to carry out the request of one Idempotency-Key.
type Claim struct{}

// Claim looks an Idempotency-Key up. It returns the stored answer of the same request, or a claim and a
// context under which the write is to be made.
func (s *State) Claim(ctx context.Context, p auth.Principal, key string, requestHash [32]byte) (context.Context, *Claim, *Answer, error) {
	return ctx, nil, nil, errPending
}

// Finish keeps the answer of a claimed request; a nil answer gives the claim back.
func (s *State) Finish(ctx context.Context, claim *Claim, answer *Answer) error { return errPending }

var _ time.Time
