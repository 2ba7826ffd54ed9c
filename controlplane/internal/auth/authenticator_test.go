package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

const testIssuer = "https://wattle.example:8443"

var somewhere = netip.MustParseAddr("192.0.2.7")

// directory knows one user's token and one peer.
type directory struct {
	token string
	peer  ed25519.PublicKey
}

func (d directory) Authenticate(_ context.Context, digest [32]byte) (Principal, error) {
	if digest != Digest(d.token) {
		return Principal{}, problem.Unauthenticated(problem.KindUnauthenticated, "the token is unknown")
	}
	return Principal{Kind: KindUser, ID: "u1", Role: "owner", AccountID: "a1"}, nil
}

func (d directory) PeerKey(_ context.Context, peerID string) (ed25519.PublicKey, string, error) {
	switch peerID {
	case "p1":
		return d.peer, "a1", nil
	case "broken":
		return nil, "", errors.New("disk on fire")
	default:
		return nil, "", problem.NotFound("peer")
	}
}

func newTestAuthenticator(t *testing.T) (*Authenticator, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Directory: directory{token: "wtp_right", peer: public}, Issuer: testIssuer, FailuresPerMinute: -1})
	if err != nil {
		t.Fatal(err)
	}
	return a, private
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, claims ...any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	builder := jwt.Signed(signer)
	for _, c := range claims {
		builder = builder.Claims(c)
	}
	text, err := builder.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func agentClaims(change func(*jwt.Claims)) jwt.Claims {
	claims := jwt.Claims{
		Issuer: "p1", Subject: "p1", Audience: jwt.Audience{testIssuer}, ID: uuid.NewString(),
		IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(MaxTokenLife)),
	}
	if change != nil {
		change(&claims)
	}
	return claims
}

func kindOf(t *testing.T, err error) problem.Kind {
	t.Helper()
	var p *problem.Problem
	if err == nil {
		return ""
	}
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem", err)
	}
	return p.Kind
}

func TestAuthenticateUsers(t *testing.T) {
	a, _ := newTestAuthenticator(t)
	tests := []struct {
		header string
		kind   problem.Kind
	}{
		{"Token wtp_right", ""},
		{"token wtp_right", ""},
		{"BEARER wtp_right", ""},
		{"Bearer  wtp_right ", ""},
		{"", problem.KindUnauthenticated},
		{"Token", problem.KindUnauthenticated},
		{"Token wtp_wrong", problem.KindUnauthenticated},
		{"Token wtk_right", problem.KindUnauthenticated},
		{"Basic wtp_right", problem.KindUnauthenticated},
		{"wtp_right", problem.KindUnauthenticated},
		{"Token wtp_" + strings.Repeat("x", maxCredential), problem.KindUnauthenticated},
	}
	for _, test := range tests {
		p, err := a.Authenticate(t.Context(), test.header, somewhere)
		if kind := kindOf(t, err); kind != test.kind {
			t.Errorf("%.40q: kind %q, want %q", test.header, kind, test.kind)
		}
		if (p.ID == "u1") != (test.kind == "") {
			t.Errorf("%.40q: principal %+v", test.header, p)
		}
	}
}

func TestAuthenticateAgents(t *testing.T) {
	a, key := newTestAuthenticator(t)
	_, otherKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) func(*jwt.Claims) {
		return func(c *jwt.Claims) {
			c.IssuedAt = jwt.NewNumericDate(time.Now().Add(-d))
			c.Expiry = jwt.NewNumericDate(time.Now().Add(MaxTokenLife - d))
		}
	}
	tests := []struct {
		name   string
		change func(*jwt.Claims)
		key    any
		alg    jose.SignatureAlgorithm
		kind   problem.Kind
		text   string
	}{
		{name: "right"},
		{name: "clock a little ahead", change: ago(-50 * time.Second)},
		{name: "clock a little behind", change: ago(MaxTokenLife + 50*time.Second)},
		{name: "clock ahead", change: ago(-7 * time.Minute), kind: problem.KindClockSkew, text: "7m0s ahead of"},
		{name: "clock behind", change: ago(3 * time.Hour), kind: problem.KindClockSkew, text: "3h0m0s behind"},
		{name: "key of another machine", key: otherKey, kind: problem.KindUnauthenticated, text: "signature"},
		{name: "RSA", key: rsaKey, alg: jose.RS256, kind: problem.KindUnauthenticated, text: "EdDSA"},
		{name: "HMAC with the public key", key: []byte(key.Public().(ed25519.PublicKey)), alg: jose.HS256, kind: problem.KindUnauthenticated, text: "EdDSA"},
		{name: "unknown peer", change: func(c *jwt.Claims) { c.Issuer, c.Subject = "p2", "p2" }, kind: problem.KindUnauthenticated, text: "enrol the machine again"},
		{name: "no subject", change: func(c *jwt.Claims) { c.Subject = "" }, kind: problem.KindUnauthenticated},
		{name: "other issuer", change: func(c *jwt.Claims) { c.Issuer = "p2" }, kind: problem.KindUnauthenticated, text: "differ"},
		{name: "other audience", change: func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://other.example"} }, kind: problem.KindUnauthenticated, text: testIssuer},
		{name: "no audience", change: func(c *jwt.Claims) { c.Audience = nil }, kind: problem.KindUnauthenticated},
		{name: "no iat", change: func(c *jwt.Claims) { c.IssuedAt = nil }, kind: problem.KindUnauthenticated, text: "iat"},
		{name: "no exp", change: func(c *jwt.Claims) { c.Expiry = nil }, kind: problem.KindUnauthenticated, text: "exp"},
		{name: "long life", change: func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(time.Hour)) }, kind: problem.KindUnauthenticated, text: "live"},
		{name: "no jti", change: func(c *jwt.Claims) { c.ID = "" }, kind: problem.KindUnauthenticated, text: "jti"},
		{name: "huge jti", change: func(c *jwt.Claims) { c.ID = strings.Repeat("x", 65) }, kind: problem.KindUnauthenticated, text: "jti"},
		{name: "not before tomorrow", change: func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(24 * time.Hour)) }, kind: problem.KindUnauthenticated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signingKey, algorithm := test.key, test.alg
				if signingKey == nil {
					signingKey = key
				}
				if algorithm == "" {
					algorithm = jose.EdDSA
				}
				p, err := a.Authenticate(t.Context(), "Bearer "+sign(t, algorithm, signingKey, agentClaims(test.change)), somewhere)
				if kind := kindOf(t, err); kind != test.kind {
					t.Fatalf("kind %q, want %q (%v)", kind, test.kind, err)
				}
				if err != nil {
					if !strings.Contains(err.Error(), test.text) {
						t.Errorf("%q lacks %q", err, test.text)
					}
					return
				}
				want := Principal{Kind: KindAgent, ID: "p1", AccountID: "a1", PeerID: "p1", Channel: ChannelAgent}
				if p != want {
					t.Errorf("principal %+v, want %+v", p, want)
				}
			})
		})
	}
}

func TestAgentTokenWorksOnce(t *testing.T) {
	a, key := newTestAuthenticator(t)
	token := "Bearer " + sign(t, jose.EdDSA, key, agentClaims(nil))
	if _, err := a.Authenticate(t.Context(), token, somewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), token, somewhere); kindOf(t, err) != problem.KindUnauthenticated {
		t.Errorf("second use: %v", err)
	}
}

func TestStoreFailureIsNoRefusal(t *testing.T) {
	a, key := newTestAuthenticator(t)
	token := sign(t, jose.EdDSA, key, agentClaims(func(c *jwt.Claims) { c.Issuer, c.Subject = "broken", "broken" }))
	_, err := a.Authenticate(t.Context(), "Bearer "+token, somewhere)
	var p *problem.Problem
	if err == nil || errors.As(err, &p) {
		t.Errorf("a store that fails must not look like bad credentials: %v", err)
	}
}

func TestUsedTokensAreKeptUntilTheyEnd(t *testing.T) {
	used, begin := newUsedTokens(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	life := MaxTokenLife + clockLeeway
	for step := range 40 { // claimed at any time, a token stays used for all of its life
		at := begin.Add(time.Duration(step) * 47 * time.Second)
		token := uuid.NewString()
		if !used.claim(token, at.Add(life), at) {
			t.Fatalf("step %d: first use refused", step)
		}
		probe := at.Add(life - time.Second)
		shadow := &usedTokens{young: cloneSet(used.young), old: cloneSet(used.old), turning: used.turning}
		for later := at; later.Before(probe); later = later.Add(time.Minute) {
			shadow.claim(uuid.NewString(), later.Add(life), later)
		}
		if shadow.claim(token, probe.Add(life), probe) {
			t.Fatalf("step %d: used twice within its life", step)
		}
	}
	if len(used.young)+len(used.old) > 20 {
		t.Errorf("tokens are never forgotten: %d young, %d old", len(used.young), len(used.old))
	}
}

func cloneSet(set map[string]struct{}) map[string]struct{} {
	clone := make(map[string]struct{}, len(set))
	for k := range set {
		clone[k] = struct{}{}
	}
	return clone
}

func TestFailuresAreLimitedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Config{Directory: directory{token: "wtp_right"}, Issuer: testIssuer, FailuresPerMinute: 3})
		if err != nil {
			t.Fatal(err)
		}
		attempt := func(token, address string) error {
			_, err := a.Authenticate(t.Context(), "Token "+token, netip.MustParseAddr(address))
			return err
		}
		for range 3 {
			if kind := kindOf(t, attempt("wtp_wrong", "2001:db8::1")); kind != problem.KindUnauthenticated {
				t.Fatalf("within the limit: %s", kind)
			}
		}
		var p *problem.Problem
		if err := attempt("wtp_wrong", "2001:db8::2"); !errors.As(err, &p) || p.Kind != problem.KindRateLimited || p.RetryAfter <= 0 || p.RetryAfter > time.Minute {
			t.Errorf("same /64 over the limit: %v", err)
		}
		if err := attempt("wtp_right", "2001:db8::1"); err != nil {
			t.Errorf("a valid token beside failing ones: %v", err)
		}
		if kind := kindOf(t, attempt("wtp_wrong", "2001:db8:0:1::1")); kind != problem.KindUnauthenticated {
			t.Errorf("another /64: %s", kind)
		}
		// Guessing the secret of a path counts like a wrong token.
		guess := func() error { return a.Guessed(netip.MustParseAddr("192.0.2.1"), problem.NotFound("invite")) }
		for range 3 {
			if kind := kindOf(t, guess()); kind != problem.KindNotFound {
				t.Fatalf("guess within the limit: %s", kind)
			}
		}
		if kind := kindOf(t, guess()); kind != problem.KindRateLimited {
			t.Errorf("guess over the limit: %s", kind)
		}
		if err := a.Guessed(netip.MustParseAddr("192.0.2.1"), nil); err != nil {
			t.Errorf("a right secret beside guesses: %v", err)
		}
		time.Sleep(time.Minute)
		if kind := kindOf(t, attempt("wtp_wrong", "2001:db8::1")); kind != problem.KindUnauthenticated {
			t.Errorf("a minute later: %s", kind)
		}
	})
}

func TestVerifyEnrolment(t *testing.T) {
	a, key := newTestAuthenticator(t)
	_, otherKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	wireGuardKey := make([]byte, 32)
	wireGuardKey[0] = 9
	digest := Digest("wtk_right")
	right := map[string]any{
		"machine_key": encode(key.Public().(ed25519.PublicKey)), "wireguard_key": encode(wireGuardKey),
		"setup_key_sha256": hex.EncodeToString(digest[:]),
	}
	times := agentClaims(func(c *jwt.Claims) { c.Issuer, c.Subject, c.Audience = "", "", nil })
	tests := []struct {
		name   string
		claims map[string]any
		key    ed25519.PrivateKey
		change func(*api.EnrollRequest)
		kind   problem.Kind
	}{
		{name: "right"},
		{name: "signed by another key", key: otherKey, kind: problem.KindUnauthenticated},
		{name: "another WireGuard key", claims: map[string]any{"wireguard_key": encode(make([]byte, 32))}, kind: problem.KindUnauthenticated},
		{name: "another setup key", change: func(r *api.EnrollRequest) { r.SetupKey = "wtk_other" }, kind: problem.KindUnauthenticated},
		{name: "no setup key", claims: map[string]any{"setup_key_sha256": ""}, kind: problem.KindUnauthenticated},
		{name: "old", claims: map[string]any{"iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-115 * time.Minute).Unix()}, kind: problem.KindClockSkew},
		{name: "garbage", change: func(r *api.EnrollRequest) { r.Proof = "a.b.c" }, kind: problem.KindUnauthenticated},
		{name: "machine key too short", change: func(r *api.EnrollRequest) { r.MachineKey = encode([]byte("short")) }, kind: problem.KindInvalid},
		{name: "zero WireGuard key", change: func(r *api.EnrollRequest) { r.WireguardKey = encode(make([]byte, 32)) }, kind: problem.KindInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			claims := map[string]any{}
			for _, layer := range []map[string]any{right, test.claims} {
				maps.Copy(claims, layer)
			}
			signingKey := key
			if test.key != nil {
				signingKey = test.key
			}
			request := api.EnrollRequest{
				SetupKey: "wtk_right", MachineKey: right["machine_key"].(string), WireguardKey: right["wireguard_key"].(string),
				Proof: sign(t, jose.EdDSA, signingKey, times, claims),
			}
			if test.change != nil {
				test.change(&request)
			}
			proof, err := a.VerifyEnrolment(request)
			if kind := kindOf(t, err); kind != test.kind {
				t.Fatalf("kind %q, want %q (%v)", kind, test.kind, err)
			}
			if err == nil && (proof.SetupKeySHA256 != digest || proof.WireGuardKey != [32]byte(wireGuardKey)) {
				t.Errorf("proof %+v", proof)
			}
			if _, again := a.VerifyEnrolment(request); (again == nil) != (err == nil) {
				t.Errorf("repeated: %v", again)
			}
		})
	}
}

func TestAuthorize(t *testing.T) {
	user := func(role string) Principal { return Principal{Kind: KindUser, Role: role} }
	agent := Principal{Kind: KindAgent, PeerID: "p1"}
	tests := []struct {
		name      string
		principal Principal
		operation string
		kind      problem.Kind
	}{
		{"anybody asks for the instance", Principal{}, "GetInstance", ""},
		{"nobody lists groups", Principal{}, "ListGroups", problem.KindUnauthenticated},
		{"owner", user("owner"), "DeletePeer", ""},
		{"auditor reads", user("auditor"), "ListAuditEvents", ""},
		{"auditor writes", user("auditor"), "CreateGroup", problem.KindForbidden},
		{"network admin", user("network_admin"), "CreatePolicy", ""},
		{"network admin and users", user("network_admin"), "CreateUser", problem.KindForbidden},
		{"network admin and own tokens", user("network_admin"), "CreateToken", ""},
		{"user about itself", user("user"), "GetCurrentUser", ""},
		{"user about groups", user("user"), "ListGroups", problem.KindForbidden},
		{"invented role", user("king"), "ListGroups", problem.KindForbidden},
		{"agent at the agents' door", agent, "StreamAgent", ""},
		{"agent at the users' door", agent, "GetCurrentUser", problem.KindUnauthenticated},
		{"user at the agents' door", user("owner"), "StreamAgent", problem.KindUnauthenticated},
	}
	for _, test := range tests {
		operation, ok := api.OperationByID(test.operation)
		if !ok {
			t.Fatalf("%s: no operation %s", test.name, test.operation)
		}
		if kind := kindOf(t, Authorize(test.principal, operation)); kind != test.kind {
			t.Errorf("%s: %q, want %q", test.name, kind, test.kind)
		}
	}
}

func TestSetupTokenGuardsTheFirstOwner(t *testing.T) {
	digest := Digest("wto_right")
	guarded, err := New(Config{Directory: directory{}, Issuer: testIssuer, SetupToken: &digest})
	if err != nil {
		t.Fatal(err)
	}
	open, _ := newTestAuthenticator(t)
	for header, kind := range map[string]problem.Kind{
		"Token wto_right": "", "bearer wto_right": "", "Token wto_wrong": problem.KindUnauthenticated, "": problem.KindUnauthenticated,
	} {
		if got := kindOf(t, guarded.CheckSetup(header, somewhere)); got != kind {
			t.Errorf("%q: %q, want %q", header, got, kind)
		}
		if err := open.CheckSetup(header, somewhere); err != nil {
			t.Errorf("%q where no token is asked for: %v", header, err)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	for _, seed := range []string{"Token wtp_x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJwMSJ9.", "bearer\t", "Bearer ..", "Bearer eyJhbGciOiJFZERTQSJ9.e30.AA"} {
		f.Add(seed)
	}
	a, err := New(Config{Directory: directory{token: "wtp_right"}, Issuer: testIssuer, FailuresPerMinute: -1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header string) {
		_, err := a.Authenticate(t.Context(), header, somewhere)
		var p *problem.Problem
		if err != nil && !errors.As(err, &p) && !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%q: %v is no problem", header, err)
		}
	})
}
