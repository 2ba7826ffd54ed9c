// Package state holds the desired state of every account and the rules by which
// it may change.
//
//	operation -> one transaction { serial + 1, rules, rows, audit } -> commit
//	                                                   |
//	            memory  <-  network map  <-  subscribers (in commit order)
//
// Rules read the rows of the transaction, so they hold whatever runs beside it.
// Reading operations answer from memory, which is rebuilt from the store at
// start and changed by committed writes only.
package state

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// A Config says where desired state is kept.
type Config struct {
	// Store, Keys and Logger are required.
	Store  *store.Store
	Keys   *seal.Keyring
	Logger *slog.Logger

	// Issuer is the public URL of the control plane: the audience of the
	// agents' tokens. Required.
	Issuer string

	// PublicURL is where machines reach the control plane. Empty means Issuer.
	PublicURL string

	// CAPin is the pin that machines need beside it; empty for none.
	CAPin string

	// Places tells in which country and city machines are. Nil means that nobody
	// knows, and that nobody meets a location check.
	Places *geo.Database

	// DNSDomain is the domain of a new network. Empty means wattle.internal.
	DNSDomain string
}

// A State holds the desired state of all accounts.
type State struct {
	cfg   Config
	store *store.Store
	blobs *netmap.BlobCache
	mapID []byte // keys the opaque ids of the network map

	mu       sync.RWMutex // guards the maps below; taken before the lock of an account
	accounts map[string]*account
	tokens   map[[32]byte]*tokenUse // by the hash of the secret
	keys     map[[32]byte]string    // setup key hash -> account
	invites  map[[32]byte]string    // invite hash -> account
	peers    map[string]string      // peer -> account

	claims claims
	trials chan struct{} // holds the trial that is computed
	turned chan struct{} // holds one: rules may begin or end at other times than before
}

// New reads desired state from the store.
func New(ctx context.Context, cfg Config) (*State, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Logger == nil || cfg.Issuer == "" {
		return nil, errors.New("state: Store, Keys, Logger and Issuer are required")
	}
	if cfg.DNSDomain == "" {
		cfg.DNSDomain = "wattle.internal"
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = cfg.Issuer
	}
	s := &State{
		cfg: cfg, store: cfg.Store, blobs: netmap.NewBlobCache(64 << 20),
		accounts: map[string]*account{}, tokens: map[[32]byte]*tokenUse{}, keys: map[[32]byte]string{}, invites: map[[32]byte]string{}, peers: map[string]string{},
		claims: claims{open: map[string]*Claim{}, fresh: map[string]freshAnswer{}},
		trials: make(chan struct{}, 1), turned: make(chan struct{}, 1),
	}
	var err error
	if s.mapID, err = s.Secret(ctx, "network-map"); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("read desired state: %w", err)
	}
	return s, nil
}

// Secret returns 32 random bytes that stay the same for the life of the
// installation. They are made at the first call for a name and kept sealed.
func (s *State) Secret(ctx context.Context, name string) ([]byte, error) {
	at := seal.Place{Table: "secret", Column: "sealed", Row: name}
	var sealed []byte
	err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
		sealed, err = store.FindSecret(ctx, tx, name)
		if !errors.Is(err, store.ErrNoRow) {
			return err
		}
		value := make([]byte, 32)
		_, _ = rand.Read(value) // never fails (crypto/rand)
		sealed = s.cfg.Keys.Seal(at, value)
		return store.AddSecret(ctx, tx, name, sealed)
	})
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	value, err := s.cfg.Keys.Open(at, sealed)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	return value, nil
}

// Engine returns the network map of an account.
func (s *State) Engine(accountID string) (*netmap.Engine, error) {
	a, err := s.account(accountID)
	if err != nil {
		return nil, err
	}
	return a.engine, nil
}

// Subscribe has fn called after each write that changed the network map of an
// account, in the order of the writes. fn must not block and must not call
// State. cancel returns once fn is not running and will not be called again.
func (s *State) Subscribe(accountID string, fn func(*netmap.Update)) (cancel func(), err error) {
	a, err := s.account(accountID)
	if err != nil {
		return nil, err
	}
	key := &fn
	a.listening.Lock()
	a.listeners[key] = fn
	a.listening.Unlock()
	return func() {
		a.listening.Lock()
		defer a.listening.Unlock()
		delete(a.listeners, key)
	}, nil
}

// refusedToken tells of a token that opens nothing no more than that.
const refusedToken = "the access token is unknown, expired or revoked; create a new one"

// Authenticate finds the holder of an access token by the SHA-256 of its
// secret. Unknown, expired and revoked tokens, and tokens of blocked users, are
// refused as unauthenticated.
func (s *State) Authenticate(ctx context.Context, sum [32]byte) (auth.Principal, error) {
	refused := problem.Unauthenticated(problem.KindUnauthenticated, refusedToken)
	s.mu.RLock()
	use, ok := s.tokens[sum]
	s.mu.RUnlock()
	if !ok || subtle.ConstantTimeCompare(use.sum[:], sum[:]) != 1 {
		return auth.Principal{}, refused
	}
	a, err := s.account(use.accountID)
	if err != nil {
		return auth.Principal{}, refused
	}
	a.mu.RLock()
	t, known := a.tokens.get(use.tokenID)
	u, found := a.users.get(t.UserID)
	a.mu.RUnlock()
	if !known || !found || u.IsBlocked || !now().Before(t.ExpiresAt) {
		return auth.Principal{}, refused
	}
	s.touch(ctx, a, use)
	kind := auth.KindUser
	if u.IsServiceUser {
		kind = auth.KindServiceUser
	}
	return auth.Principal{
		Kind: kind, ID: u.ID, Name: u.Name, Email: u.Email, Role: u.Role, AccountID: u.AccountID, TokenID: t.ID, Channel: auth.ChannelAPI,
	}, nil
}

// PeerKey returns the machine key and the account of a peer; not found when it
// was removed.
func (s *State) PeerKey(_ context.Context, peerID string) (ed25519.PublicKey, string, error) {
	a, peer, err := s.peer(peerID)
	if err != nil {
		return nil, "", err
	}
	return ed25519.PublicKey(peer.MachineKey), a.id, nil
}

func (s *State) peer(peerID string) (*account, store.Peer, error) {
	s.mu.RLock()
	a := s.accounts[s.peers[peerID]]
	s.mu.RUnlock()
	if a == nil {
		return nil, store.Peer{}, problem.NotFound("peer")
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	peer, ok := a.peers.get(peerID)
	if !ok {
		return nil, peer, problem.NotFound("peer")
	}
	return a, peer, nil
}

func (s *State) account(id string) (*account, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a, ok := s.accounts[id]; ok {
		return a, nil
	}
	return nil, problem.NotFound("account")
}

// reading runs fn on the account of a principal. Nothing changes meanwhile.
func (s *State) reading(p auth.Principal, fn func(a *account) error) error {
	a, err := s.account(p.AccountID)
	if err != nil {
		return err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return fn(a)
}

// Revision counts the writes that the account of a principal has seen. What an
// answer tells of objects that do not change by themselves is the same while it
// stays: presence, uses and the passing of time do not move it.
func (s *State) Revision(p auth.Principal) (revision uint64, err error) {
	err = s.reading(p, func(a *account) error {
		revision = a.revision
		return nil
	})
	return revision, err
}

// now is the present time as the store keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newID returns an opaque id of 20 characters: 40 bits of the time in milliseconds, which come again after 34 years, and 60
// random ones. What is made together has its place together in the indexes of the store, so that a commit writes one page
// for all of it in place of one for each.
func newID() string {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(time.Now().UnixMilli()))
	return idDigits.EncodeToString(at[3:]) + strings.ToLower(rand.Text()[:12])
}

// idDigits are those of rand.Text, in the order in which texts sort.
var idDigits = base32.NewEncoding("234567abcdefghijklmnopqrstuvwxyz")
