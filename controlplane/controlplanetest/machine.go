package controlplanetest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/wattlenet/wattle/generated/api"
)

// A Machine is an enrolled peer without an agent: enough to speak as one.
type Machine struct {
	// PeerID names the peer.
	PeerID string

	// WireGuardKey is its WireGuard public key in base64.
	WireGuardKey string

	key ed25519.PrivateKey
}

// NewMachine enrols a machine with the reusable setup key.
func NewMachine(t testing.TB, server *Server) *Machine {
	t.Helper()
	machine, request := NewEnrolment(t, server.SetupKey)
	var result api.EnrollResult
	status, body := post(t, server.URL+"/agent/v1/enroll", request)
	if err := json.Unmarshal(body, &result); err != nil || status != http.StatusOK {
		t.Fatalf("enrol a machine: %d %s", status, body)
	}
	machine.PeerID = result.PeerId
	return machine
}

// NewEnrolment makes the keys of a machine and the request with which it
// enrols. PeerID is empty until the request was answered.
func NewEnrolment(t testing.TB, setupKey string) (*Machine, api.EnrollRequest) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wireGuardKey := make([]byte, 32)
	if _, err := rand.Read(wireGuardKey); err != nil {
		t.Fatal(err)
	}
	machine := &Machine{WireGuardKey: base64.StdEncoding.EncodeToString(wireGuardKey), key: private}
	machineKey, digest := base64.StdEncoding.EncodeToString(public), sha256.Sum256([]byte(setupKey))
	request := api.EnrollRequest{
		SetupKey: setupKey, MachineKey: machineKey, WireguardKey: machine.WireGuardKey,
		Facts: api.MachineFacts{Hostname: "machine-" + hex.EncodeToString(wireGuardKey[:4]), Os: "linux", Arch: "amd64", AgentVersion: "test"},
		Proof: machine.sign(t, jwt.Claims{}, map[string]any{
			"machine_key": machineKey, "wireguard_key": machine.WireGuardKey, "setup_key_sha256": hex.EncodeToString(digest[:]),
		}),
	}
	return machine, request
}

// Authorization returns the header of one request of the machine.
func (m *Machine) Authorization(t testing.TB) string {
	t.Helper()
	return "Bearer " + m.sign(t, jwt.Claims{Issuer: m.PeerID, Subject: m.PeerID, Audience: jwt.Audience{Issuer}}, nil)
}

func (m *Machine) sign(t testing.TB, claims jwt.Claims, more any) string {
	t.Helper()
	now := time.Now()
	claims.ID, claims.IssuedAt, claims.Expiry = rand.Text(), jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(time.Minute))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: m.key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	builder := jwt.Signed(signer).Claims(claims)
	if more != nil {
		builder = builder.Claims(more)
	}
	token, err := builder.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func post(t testing.TB, url string, request any) (int, []byte) {
	t.Helper()
	raw, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(url, "application/json", bytes.NewReader(raw)) //nolint:noctx,gosec // ends with the server of the test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}
