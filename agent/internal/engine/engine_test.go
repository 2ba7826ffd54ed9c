package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// machine is an engine on a fake machine, at a real control plane.
type machine struct {
	*Engine
	*Fake
	t    *testing.T
	dir  string
	stop func()
}

func boot(t *testing.T, dir string) *machine { return bootAt(t, dir, nil, &Fake{}) }

// bootAt boots with a clock of its own, and a fake that may fail.
func bootAt(t *testing.T, dir string, now func() time.Time, fake *Fake) *machine {
	t.Helper()
	return bootWith(t, dir, func(c *Config) { c.Now = now }, fake)
}

// bootWith boots with a config that change has changed.
func bootWith(t *testing.T, dir string, change func(*Config), fake *Fake) *machine {
	t.Helper()
	store, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Fake: fake, t: t, dir: dir}
	config := Config{Logger: slog.New(slog.DiscardHandler), Store: store, Version: "test", Open: m.Fake.Open}
	change(&config)
	m.Engine, err = New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(m.stop)
	return m
}

func join(t *testing.T, plane *controlplanetest.Server) *machine {
	t.Helper()
	m := boot(t, t.TempDir())
	if err := m.Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
		t.Fatal(err)
	}
	return m
}

// until waits until the status is as wanted.
func (m *machine) until(what string, holds func(local.Status) bool) local.Status {
	m.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		change := m.Watch()
		status := m.Engine.Status(m.t.Context())
		if holds(status) {
			return status
		}
		select {
		case <-change:
		case <-limit:
			m.t.Fatalf("%s did not come: %+v", what, status)
		}
	}
}

func peersAre(n int) func(local.Status) bool {
	return func(s local.Status) bool { return len(s.Peers) == n }
}

func TestMachinesSeeEachOtherAndStop(t *testing.T) {
	plane := controlplanetest.New(t)
	a := join(t, plane)
	b := join(t, plane)
	a.until("the other machine", peersAre(1))
	status := b.until("the other machine", peersAre(1))
	if status.State != local.StateReady || status.Peers[0].Name == status.Name || len(status.Addresses) != 2 || !status.Management.Connected {
		t.Errorf("status %+v", status)
	}
	a.Fake.Calls()

	policies, err := plane.Client.ListPolicies(t.Context(), sdk.ListPoliciesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range policies {
		if err := plane.Client.DeletePolicy(t.Context(), policy.Id); err != nil {
			t.Fatal(err)
		}
	}
	a.until("nobody", peersAre(0))
	if calls := a.Fake.Calls(); !slices.Equal(calls[:2], []string{"firewall", "tunnel"}) {
		t.Errorf("order %v, want the firewall first", calls)
	}
}

func TestUpAgainDoesNothing(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	m.Fake.Calls()
	for _, request := range []local.UpRequest{{}, {ManagementURL: plane.URL + "/", SetupKey: plane.OneOffSetupKey}} {
		if err := m.Up(t.Context(), request); err != nil {
			t.Error(err)
		}
	}
	if calls := m.Fake.Calls(); len(calls) != 0 {
		t.Errorf("the machine was touched: %v", calls)
	}
	peers, err := plane.Client.ListPeers(t.Context(), noFilter)
	if err != nil || len(peers) != 1 {
		t.Errorf("%d peers, %v", len(peers), err)
	}
}

func TestDownAndUp(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	name := m.Engine.Status(t.Context()).Name
	m.Fake.Calls()
	if err := m.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"names closed", "tunnel closed", "firewall closed"}, m.Fake.Calls()); diff != "" {
		t.Error(diff)
	}
	if status := m.Engine.Status(t.Context()); status.State != local.StateDown {
		t.Errorf("state %s", status.State)
	}
	m.stop() // and stays down when the daemon starts again
	again := boot(t, m.dir)
	if status := again.Engine.Status(t.Context()); status.State != local.StateDown {
		t.Errorf("state %s", status.State)
	}
	if err := again.Up(t.Context(), local.UpRequest{}); err != nil {
		t.Fatal(err)
	}
	if status := again.Engine.Status(t.Context()); status.Name != name || status.State != local.StateReady {
		t.Errorf("status %+v", status)
	}
}

func TestLastMapServesWithoutAControlPlane(t *testing.T) {
	plane := controlplanetest.New(t)
	m, other := join(t, plane), join(t, plane)
	m.until("the other machine", peersAre(1))
	m.stop()
	other.stop()
	moveAway(t, m.dir)
	again := boot(t, m.dir)
	status := again.until("the last map", peersAre(1))
	if status.State != local.StateOffline || status.Map.Epoch == "" {
		t.Errorf("status %+v", status)
	}
}

func TestRemovedPeerIsForgotten(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	id := m.Engine.Status(t.Context()).PeerID
	if err := plane.Client.DeletePeer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	status := m.until("removal", func(s local.Status) bool { return s.State == local.StateNotEnrolled && len(s.Warnings) > 0 })
	if !strings.Contains(status.Warnings[0], "removed") {
		t.Errorf("warnings %v", status.Warnings)
	}
	if err := m.Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
		t.Fatal(err)
	}
	if status := m.Engine.Status(t.Context()); status.PeerID == id || status.State != local.StateReady {
		t.Errorf("status %+v", status)
	}
}

func TestLogout(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	if err := m.Logout(t.Context(), local.LogoutRequest{Delete: true}); err != nil {
		t.Fatal(err)
	}
	if status := m.Engine.Status(t.Context()); status.State != local.StateNotEnrolled || status.PublicKey != "" {
		t.Errorf("status %+v", status)
	}
	peers, err := plane.Client.ListPeers(t.Context(), noFilter)
	if err != nil || len(peers) != 0 {
		t.Errorf("%d peers, %v", len(peers), err)
	}
}

func TestRefusals(t *testing.T) {
	plane := controlplanetest.New(t)
	if err := boot(t, t.TempDir()).Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.OneOffSetupKey}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		request local.UpRequest
		code    int
		text    string
	}{
		"unknown key":         {local.UpRequest{ManagementURL: plane.URL, SetupKey: "wtk_unknown"}, program.ExitNotEnrolled, "unknown"},
		"key that is used":    {local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.OneOffSetupKey}, program.ExitNotEnrolled, "used"},
		"no control plane":    {local.UpRequest{ManagementURL: "http://127.0.0.1:1", SetupKey: "k"}, program.ExitControlPlaneUnreachable, "cannot be reached"},
		"no key":              {local.UpRequest{ManagementURL: plane.URL}, program.ExitNotEnrolled, "--setup-key-file"},
		"no address":          {local.UpRequest{SetupKey: "k"}, program.ExitNotEnrolled, "--management-url"},
		"pin without TLS":     {local.UpRequest{ManagementURL: plane.URL, SetupKey: "k", CAPin: "sha256:" + strings.Repeat("0", 64)}, program.ExitUsage, "https"},
		"address with a path": {local.UpRequest{ManagementURL: plane.URL + "/api", SetupKey: plane.SetupKey}, program.ExitUsage, "behind the host"},
		"plain HTTP":          {local.UpRequest{ManagementURL: "http://mesh.example", SetupKey: plane.SetupKey}, program.ExitUsage, "--insecure-http"},
		"half a pin":          {local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey, CAPin: "sha256:00"}, program.ExitUsage, "64"},
		"key of two lines":    {local.UpRequest{ManagementURL: plane.URL, SetupKey: "wtk_a\nwtk_b"}, program.ExitUsage, "copy it again"},
		"no tunnel possible":  {local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}, 0, "injected"},
	} {
		t.Run(name, func(t *testing.T) {
			m := boot(t, t.TempDir())
			if test.code == 0 {
				m.FailNext("open", errInjected)
			}
			err := m.Up(t.Context(), test.request)
			var own *local.Error
			if err == nil || !strings.Contains(err.Error(), test.text) || errors.As(err, &own) && own.Code != test.code {
				t.Errorf("error %v, want %q and code %d", err, test.text, test.code)
			}
			if status := m.Engine.Status(t.Context()); status.State != local.StateNotEnrolled || status.PeerID != "" {
				t.Errorf("status %+v", status)
			}
		})
	}
	if peers, err := plane.Client.ListPeers(t.Context(), noFilter); err != nil || len(peers) != 1 {
		t.Errorf("%d peers, want the one: %v", len(peers), err)
	}
}

var noFilter sdk.ListPeersOptions

// moveAway makes the identity in dir name a control plane that is not there.
func moveAway(t *testing.T, dir string) {
	t.Helper()
	store, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	mine.ManagementURL = "http://127.0.0.1:1"
	if err := errors.Join(store.Save(mine), store.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestClockThatIsOffDoesNotKeepAMachineOut(t *testing.T) {
	plane := controlplanetest.New(t)
	for name, off := range map[string]time.Duration{
		"an hour behind": -time.Hour, "an hour ahead": time.Hour,
		"three years behind": -3 * 8766 * time.Hour, "three years ahead": 3 * 8766 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			m := bootAt(t, t.TempDir(), func() time.Time { return time.Now().Add(off) }, &Fake{})
			if err := m.Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
				t.Fatal(err)
			}
			status := m.Engine.Status(t.Context())
			if status.State != local.StateReady || len(status.Warnings) == 0 || !strings.Contains(status.Warnings[0], "clock") {
				t.Errorf("status %+v", status)
			}
			if wrong := status.Management.ClockOffsetSeconds + off.Seconds(); wrong < -5 || wrong > 5 {
				t.Errorf("offset %v s, want %v s", status.Management.ClockOffsetSeconds, -off.Seconds())
			}
			if err := m.Logout(t.Context(), local.LogoutRequest{Delete: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPeerDeletedMeanwhileEnrolsAnew(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	id := m.Engine.Status(t.Context()).PeerID
	m.stop()
	if err := plane.Client.DeletePeer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	again := boot(t, m.dir)
	var own *local.Error
	if err := again.Up(t.Context(), local.UpRequest{}); !errors.As(err, &own) || own.Code != program.ExitNotEnrolled || !strings.Contains(own.Message, "setup key") {
		t.Errorf("up without a key: %v", err)
	}
	if status := again.Engine.Status(t.Context()); status.PeerID != id {
		t.Errorf("the identity was forgotten without a key for another: %+v", status)
	}
	if err := again.Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
		t.Fatal(err)
	}
	if status := again.Engine.Status(t.Context()); status.PeerID == id || status.State != local.StateReady {
		t.Errorf("status %+v", status)
	}
}

func TestPinThatIsNotTheServersIsNotTaken(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	m.Fake.Calls()
	before := *m.identity
	if err := m.Up(t.Context(), local.UpRequest{CAPin: "sha256:" + strings.Repeat("0", 64)}); err == nil {
		t.Error("a pin was taken for a control plane without TLS")
	}
	if calls := m.Fake.Calls(); len(calls) != 0 || m.identity.CAPin != before.CAPin {
		t.Errorf("the machine was touched: %v, pin %q", calls, m.identity.CAPin)
	}
	if status := m.Engine.Status(t.Context()); status.State != local.StateReady {
		t.Errorf("status %+v", status)
	}
}

func TestStartThatFailsIsTold(t *testing.T) {
	plane := controlplanetest.New(t)
	m := join(t, plane)
	m.stop()
	fake := &Fake{}
	fake.FailNext("open", errInjected)
	again := bootAt(t, m.dir, nil, fake)
	status := again.until("the reason", func(s local.Status) bool { return len(s.Warnings) > 0 })
	if !strings.Contains(status.Warnings[0], "injected") || status.State == local.StateReady {
		t.Errorf("status %+v", status)
	}
	if err := again.Up(t.Context(), local.UpRequest{}); err != nil {
		t.Fatal(err)
	}
	if status := again.Engine.Status(t.Context()); status.State != local.StateReady || len(status.Warnings) != 0 {
		t.Errorf("status %+v", status)
	}
}

// TestEnrolmentThatCannotBeWrittenDown loses the state folder after the control plane has made the machine a peer.
func TestEnrolmentThatCannotBeWrittenDown(t *testing.T) {
	plane := controlplanetest.New(t)
	dir := t.TempDir()
	away := dir + ".away"
	var lose sync.Once
	fake := &Fake{}
	m := bootWith(t, dir, func(c *Config) {
		c.Open = func(wanted MachineConfig) (*Machine, error) {
			machine, err := fake.Open(wanted)
			port := machine.Port
			machine.Port = func() uint16 { // asked once enrolment has answered
				lose.Do(func() {
					if err := os.Rename(dir, away); err != nil {
						t.Error(err)
					}
				})
				return port()
			}
			return machine, err
		}
	}, fake)
	request := local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}
	if err := m.Up(t.Context(), request); err == nil {
		t.Fatal("the machine is up, and would not know it after a restart")
	}
	if s := m.Engine.Status(t.Context()); s.State != local.StateNotEnrolled || s.PeerID != "" {
		t.Errorf("state %s, peer %q", s.State, s.PeerID)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	peers, err := plane.Client.ListPeers(t.Context(), noFilter)
	if err != nil || len(peers) != 1 {
		t.Errorf("%d peers, error %v; want the same peer again", len(peers), err)
	}
}
