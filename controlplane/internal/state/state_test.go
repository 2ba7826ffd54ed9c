package state

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// A fixture is a state with a fresh network and its owner.
type fixture struct {
	*State
	t       testing.TB
	dir     string
	network FreshNetwork
	owner   auth.Principal
}

// database says where the state of a folder is kept: in a file of the folder, unless TestOnPostgres runs.
var database = func(_ testing.TB, dir string) store.Config {
	return store.Config{Path: filepath.Join(dir, "control.db")}
}

// open starts a state on the folder.
func open(t testing.TB, dir string) *State {
	t.Helper()
	cfg := database(t, dir)
	cfg.Logger = slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	keys, err := seal.Open(t.Context(), filepath.Join(dir, "master.key"), db)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Config{Store: db, Keys: keys, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Issuer: "https://wattle.test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	f.State = open(t, f.dir)
	var err error
	f.network, err = f.SetUp(t.Context(), auth.Principal{Channel: auth.ChannelCommand}, NewOwner{Email: "owner@example.org", Name: "Owner", TokenDays: 30})
	if err != nil {
		t.Fatal(err)
	}
	f.owner = auth.Principal{
		Kind: auth.KindUser, ID: f.network.UserID, Name: "Owner", Email: "owner@example.org", Role: "owner", AccountID: f.network.AccountID,
		Channel: auth.ChannelAPI, RequestID: "req-1",
	}
	return f
}

func b64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// request is the enrolment of a new machine.
func request(key, hostname string) api.EnrollRequest {
	machine, _, _ := ed25519.GenerateKey(rand.Reader)
	wireguard := make([]byte, 32)
	_, _ = rand.Read(wireguard)
	return api.EnrollRequest{
		SetupKey: key, MachineKey: b64(machine), WireguardKey: b64(wireguard), Proof: "verified before",
		Facts: api.MachineFacts{Hostname: hostname, Os: "linux", Arch: "amd64", KernelVersion: "6.1", AgentVersion: "0.1.0"},
	}
}

var somewhere = netip.MustParseAddr("192.0.2.7")

func (f *fixture) enroll(hostname string) api.Peer {
	f.t.Helper()
	result, err := f.Enroll(f.t.Context(), auth.Principal{}, request(f.network.ReusableSetupKey, hostname), somewhere)
	return f.peerAfter(result, err)
}

func (f *fixture) peerAfter(result api.EnrollResult, err error) api.Peer {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return must(f.GetPeer(f.t.Context(), f.owner, result.PeerId))(f.t)
}

func (f *fixture) group(name string, peers ...string) api.Group {
	f.t.Helper()
	req := api.GroupRequest{Name: name}
	if peers != nil {
		req.Peers = nullable.NewNullableWithValue(peers)
	}
	return must(f.CreateGroup(f.t.Context(), f.owner, req))(f.t)
}

// atOnce calls act n times at once, counts the calls that went through and hands the errors of the others to lost.
func atOnce(n int, act func(i int) error, lost func(error)) (won int) {
	var all sync.WaitGroup
	answers := make([]error, n)
	for i := range n {
		all.Go(func() { answers[i] = act(i) })
	}
	all.Wait()
	for _, err := range answers {
		if err == nil {
			won++
			continue
		}
		lost(err)
	}
	return won
}

// must gives a value or ends the test.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks kind, field and a part of the text of a problem.
func refused(t testing.TB, err error, kind problem.Kind, field, detail string) {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a problem of kind %s", err, kind)
	}
	if p.Kind != kind {
		t.Fatalf("got kind %s (%v), want %s", p.Kind, err, kind)
	}
	if field == "" {
		contains(t, p.Detail, detail)
		return
	}
	for _, fault := range p.Errors {
		if fault.Field == field {
			contains(t, fault.Detail, detail)
			return
		}
	}
	t.Fatalf("no fault at %s in %v", field, p.Errors)
}

func TestIDsSortByTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		form := regexp.MustCompile(`^[a-z2-7]{20}$`)
		seen, last := map[string]bool{}, ""
		for range 1000 {
			twin := newID()
			id := newID()
			if seen[id] || seen[twin] || id == twin || min(id, twin) <= last || !form.MatchString(id) {
				t.Fatalf("%q and %q come after %q", id, twin, last)
			}
			seen[id], seen[twin], last = true, true, max(id, twin)
			time.Sleep(time.Millisecond)
		}
	})
}
