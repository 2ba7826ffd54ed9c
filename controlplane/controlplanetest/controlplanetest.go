// Package controlplanetest runs a complete control plane inside a test, in the
// manner of net/http/httptest.
//
//	plane := controlplanetest.New(t)
//	group, err := plane.Client.CreateGroup(t.Context(), api.GroupRequest{Name: "web"})
//
// It is the real server: SQLite in a folder of the test, plain HTTP on loopback,
// no relay. It costs little enough for one per test.
package controlplanetest

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/start"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// Issuer is the audience of agent tokens at every server of this package.
const Issuer = "https://controlplane.test"

// A Server is a control plane with its owner, ready to be asked.
type Server struct {
	// URL is where it listens; plain HTTP on loopback.
	URL string

	// Token is an access token of the owner.
	Token string

	// CAPin is empty: there is no TLS to be pinned.
	CAPin string

	// AccountID and OwnerID name the only account and its owner.
	AccountID, OwnerID string

	// SetupKey enrols any number of machines, OneOffSetupKey one.
	SetupKey, OneOffSetupKey string

	// Client asks as the owner.
	Client *sdk.Client
}

// New starts a control plane that ends with the test. It fails the test when
// it cannot.
func New(t testing.TB) *Server {
	t.Helper()
	plane, server := begin(t)
	owner := state.NewOwner{Email: "owner@controlplane.test", Name: "owner", TokenDays: 1}
	fresh, err := plane.State.SetUp(t.Context(), auth.System(""), owner)
	if err != nil {
		t.Fatalf("make the owner: %v", err)
	}
	client, err := sdk.New(sdk.Config{URL: server.URL, Token: fresh.Token})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	server.Token, server.Client = fresh.Token, client
	server.AccountID, server.OwnerID = fresh.AccountID, fresh.UserID
	server.SetupKey, server.OneOffSetupKey = fresh.ReusableSetupKey, fresh.OneOffSetupKey
	return server
}

// NewWithoutOwner starts a control plane that still waits for POST /api/setup;
// only URL is set.
func NewWithoutOwner(t testing.TB) *Server {
	t.Helper()
	_, server := begin(t)
	return server
}

func begin(t testing.TB) (*start.Plane, *Server) {
	t.Helper()
	folder := t.TempDir()
	plane, err := start.NewPlane(t.Context(), start.PlaneConfig{
		Database:          filepath.Join(folder, "control.db"),
		MasterKey:         filepath.Join(folder, "master.key"),
		Issuer:            Issuer,
		Rate:              -1,
		FailuresPerMinute: -1,
		Logger:            program.Quiet(),
	})
	if err != nil {
		t.Fatalf("start a control plane: %v", err)
	}
	run(t, plane)
	listener := httptest.NewServer(plane.Handler)
	t.Cleanup(listener.Close)
	t.Cleanup(plane.Leave) // runs first: a stream would hold the listener
	return plane, &Server{URL: listener.URL}
}

// run does the timed work of the plane until the test ends.
func run(t testing.TB, plane *start.Plane) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run the control plane: %v", err)
		}
		if err := plane.Close(); err != nil {
			t.Errorf("close the control plane: %v", err)
		}
	})
}
