// Package identity keeps what makes this machine a peer: its keys, its place in the network and its last map.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// A MachineKey is the Ed25519 key (RFC 8032) that signs the agent's tokens. It
// does not print, and two of them cannot be compared with ==.
type MachineKey struct {
	_       [0]func()
	private ed25519.PrivateKey
}

// GenerateMachineKey makes a new machine key.
func GenerateMachineKey() (MachineKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return MachineKey{}, fmt.Errorf("generate the machine key: %w", err)
	}
	return MachineKey{private: private}, nil
}

// Private returns the key for a signer.
func (k MachineKey) Private() ed25519.PrivateKey { return k.private }

// Public returns the public key in standard base64, 44 characters.
func (k MachineKey) Public() string {
	public, ok := k.private.Public().(ed25519.PublicKey)
	if !ok {
		return ""
	}
	return base64.StdEncoding.EncodeToString(public)
}

// IsZero reports whether the key was never set.
func (k MachineKey) IsZero() bool { return len(k.private) == 0 }

// String hides the key.
func (MachineKey) String() string { return "(machine key)" }

// Format hides the key from every verb.
func (MachineKey) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte("(machine key)")) }

// LogValue hides the key from log records.
func (MachineKey) LogValue() slog.Value { return slog.StringValue("(machine key)") }

// An Identity is this machine as the control plane knows it. Before enrolment
// only the keys are set.
type Identity struct {
	MachineKey   MachineKey
	WireGuardKey tunnel.PrivateKey

	// NextKey is the WireGuard key that the machine will change over to,
	// PreviousKey the one it has changed over from; zero for none.
	NextKey     tunnel.PrivateKey
	PreviousKey tunnel.PrivateKey

	// KeySince is when WireGuardKey came into use; zero: not noted.
	KeySince time.Time

	// ManagementURL is the root of the control plane, such as
	// https://mesh.example:8443. CAPin names its certificate authority
	// ("sha256:" and 64 hexadecimal digits); empty for the system's roots.
	ManagementURL string
	CAPin         string

	// PeerID, AccountID, Issuer and Name are what enrolment answered. Empty
	// before enrolment.
	PeerID    string
	AccountID string
	Issuer    string
	Name      string

	// Epoch is the history of the network that enrolment told; a lower one is
	// refused even before the first map.
	Epoch string

	// ListenPort is the UDP port that the tunnel had last; 0 when there was none.
	// A restarted agent that takes it again is found where it was.
	ListenPort uint16

	// Interface is the one that the tunnel had last; empty when there was none. What
	// an agent that was killed has left for it is found there.
	Interface string

	// Up is whether the machine shall be connected: true from `up` to `down`,
	// also across restarts of the daemon.
	Up bool
}

// Enrolled reports whether the machine is a peer.
func (i *Identity) Enrolled() bool { return i.PeerID != "" }

// document is the form of the identity on disk.
type document struct {
	Version       int    `json:"version"`
	MachineKey    string `json:"machine_key"`
	WireGuardKey  string `json:"wireguard_key"`
	NextKey       string `json:"next_wireguard_key,omitempty"`
	PreviousKey   string `json:"previous_wireguard_key,omitempty"`
	KeySince      int64  `json:"wireguard_key_since,omitempty"` // seconds since 1970
	ManagementURL string `json:"management_url,omitempty"`
	CAPin         string `json:"ca_pin,omitempty"`
	PeerID        string `json:"peer_id,omitempty"`
	AccountID     string `json:"account_id,omitempty"`
	Issuer        string `json:"issuer,omitempty"`
	Name          string `json:"name,omitempty"`
	Epoch         string `json:"epoch,omitempty"`
	ListenPort    uint16 `json:"listen_port,omitempty"`
	Interface     string `json:"interface,omitempty"`
	Up            bool   `json:"up"`
}

const documentVersion = 1

func (i *Identity) encode() ([]byte, error) {
	return json.MarshalIndent(document{
		Version:       documentVersion,
		MachineKey:    base64.StdEncoding.EncodeToString(i.MachineKey.private.Seed()),
		WireGuardKey:  i.WireGuardKey.Encode(),
		NextKey:       encodeOptional(i.NextKey),
		PreviousKey:   encodeOptional(i.PreviousKey),
		KeySince:      secondsOf(i.KeySince),
		ManagementURL: i.ManagementURL,
		CAPin:         i.CAPin,
		PeerID:        i.PeerID,
		AccountID:     i.AccountID,
		Issuer:        i.Issuer,
		Name:          i.Name,
		Epoch:         i.Epoch,
		ListenPort:    i.ListenPort,
		Interface:     i.Interface,
		Up:            i.Up,
	}, "", "  ")
}

func decodeIdentity(raw []byte) (*Identity, error) {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if d.Version != documentVersion {
		return nil, fmt.Errorf("version %d is not known to this agent", d.Version)
	}
	seed, err := base64.StdEncoding.DecodeString(d.MachineKey)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("the machine key is damaged")
	}
	key, err := tunnel.ParsePrivateKey(d.WireGuardKey)
	if err != nil {
		return nil, errors.New("the WireGuard key is damaged")
	}
	next, err1 := decodeOptional(d.NextKey)
	previous, err2 := decodeOptional(d.PreviousKey)
	if errors.Join(err1, err2) != nil {
		return nil, errors.New("the next or the previous WireGuard key is damaged")
	}
	return &Identity{
		MachineKey:    MachineKey{private: ed25519.NewKeyFromSeed(seed)},
		WireGuardKey:  key,
		NextKey:       next,
		PreviousKey:   previous,
		KeySince:      moment(d.KeySince),
		ManagementURL: d.ManagementURL,
		CAPin:         d.CAPin,
		PeerID:        d.PeerID,
		AccountID:     d.AccountID,
		Issuer:        d.Issuer,
		Name:          d.Name,
		Epoch:         d.Epoch,
		ListenPort:    d.ListenPort,
		Interface:     d.Interface,
		Up:            d.Up,
	}, nil
}

// New makes an identity with fresh keys.
func New() (*Identity, error) {
	machine, err := GenerateMachineKey()
	if err != nil {
		return nil, err
	}
	return &Identity{MachineKey: machine, WireGuardKey: tunnel.GenerateKey(), KeySince: time.Now().Truncate(time.Second)}, nil
}

func encodeOptional(k tunnel.PrivateKey) string {
	if k.IsZero() {
		return ""
	}
	return k.Encode()
}

func decodeOptional(text string) (tunnel.PrivateKey, error) {
	if text == "" {
		return tunnel.PrivateKey{}, nil
	}
	return tunnel.ParsePrivateKey(text)
}

func secondsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
