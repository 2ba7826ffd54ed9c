package local

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/agent/internal/netcheck"
)

// fakeDaemon answers what a test tells it to and keeps what it was asked.
type fakeDaemon struct {
	up     UpRequest
	err    error
	pings  []PingReply
	downed bool

	changed  chan struct{}
	state    string
	operator string
	set      SetRequest
}

func (d *fakeDaemon) stateNow() string {
	if d.state == "" {
		return StateReady
	}
	return d.state
}

func (d *fakeDaemon) Watch() <-chan struct{} { return d.changed }

func (d *fakeDaemon) Settings(context.Context) Settings {
	return Settings{Schema: SettingsSchema, File: "/f", Settings: []Setting{{Name: "dns", Value: true, Text: "true", Origin: "file", Choices: []string{}}}}
}

func (d *fakeDaemon) Set(_ context.Context, request SetRequest) (SetAnswer, error) {
	d.set = request
	return SetAnswer{Schema: SetSchema, Hidden: []Hidden{{Name: "dns", Origin: "flag"}}}, d.err
}

func (d *fakeDaemon) Reload(context.Context) error                 { return d.err }
func (d *fakeDaemon) SetLevel(context.Context, LevelRequest) error { return d.err }
func (d *fakeDaemon) Operator() string                             { return d.operator }

func (d *fakeDaemon) Status(context.Context) Status {
	return Status{Schema: StatusSchema, State: d.stateNow(), Peers: []Peer{{Name: "web-1", Path: "direct"}}}
}

func (d *fakeDaemon) Up(_ context.Context, request UpRequest) error {
	d.up = request
	return d.err
}

func (d *fakeDaemon) Down(context.Context) error {
	d.downed = true
	return d.err
}
func (d *fakeDaemon) Logout(context.Context, LogoutRequest) error { return d.err }

func (d *fakeDaemon) RotateKey(context.Context, RotateKeyRequest) error { return d.err }

func (d *fakeDaemon) Wait(ctx context.Context, _ WaitRequest) error {
	<-ctx.Done()
	return ctx.Err()
}

func (d *fakeDaemon) Ping(_ context.Context, _ PingRequest, reply func(PingReply) error) error {
	for _, r := range d.pings {
		if err := reply(r); err != nil {
			return err
		}
	}
	return d.err
}

func (d *fakeDaemon) Netcheck(_ context.Context, request NetcheckRequest) (netcheck.Report, error) {
	return netcheck.Report{Schema: netcheck.Schema, Servers: []netcheck.Answer{{Host: request.STUN[0]}}, Warnings: []string{}}, d.err
}

func (d *fakeDaemon) Debug(context.Context) Debug {
	return Debug{Schema: DebugSchema, Log: "line", Rules: []any{}, Sets: map[string][]string{}}
}

func (d *fakeDaemon) Whois(_ context.Context, request WhoisRequest) (WhoisAnswer, error) {
	return WhoisAnswer{Schema: WhoisSchema, Name: request.Address, Addresses: []string{}, Routers: []string{}}, d.err
}

func (d *fakeDaemon) Access(_ context.Context, request FlowRequest) (AccessAnswer, error) {
	return AccessAnswer{Schema: AccessSchema, Source: request.Source, Port: request.Port}, d.err
}

func (d *fakeDaemon) Trace(_ context.Context, request FlowRequest) (TraceAnswer, error) {
	return TraceAnswer{Schema: TraceSchema, Steps: []TraceStep{{Step: request.Direction}}}, d.err
}

func (d *fakeDaemon) Query(_ context.Context, request QueryRequest) (QueryAnswer, error) {
	return QueryAnswer{Schema: QuerySchema, Name: request.Name, Records: []string{}}, d.err
}

// serve runs a daemon on a socket of its own until the test ends.
func serve(t *testing.T, d Daemon) (*Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "a.sock")
	ctx, cancel := context.WithCancel(context.Background())
	server, err := Listen(ctx, ServerConfig{Logger: slog.New(slog.DiscardHandler), Socket: socket, Daemon: d})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return NewClient(socket), socket
}

func TestCallsReachTheDaemon(t *testing.T) {
	d := &fakeDaemon{pings: []PingReply{{Sequence: 1, RTTMillis: 1.5}, {Sequence: 2, Error: "no answer"}}}
	client, socket := serve(t, d)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v, error %v", info.Mode(), err)
	}
	status, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.Status(t.Context()), status); diff != "" {
		t.Error(diff)
	}
	want := UpRequest{ManagementURL: "https://mesh.example", SetupKey: "wtk_x", CAPin: "sha256:00", TimeoutSeconds: 3}
	if err := errors.Join(client.Up(t.Context(), want), client.Down(t.Context())); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.up); diff != "" || !d.downed {
		t.Error(diff)
	}
	var replies []PingReply
	if err := client.Ping(t.Context(), PingRequest{Peer: "web-1"}, func(r PingReply) error {
		replies = append(replies, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.pings, replies); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	d := &fakeDaemon{err: Errorf(4, "the setup key has expired; ask for a new one"), pings: []PingReply{{}}}
	client, _ := serve(t, d)
	calls := map[string]func() error{
		"up":     func() error { return client.Up(t.Context(), UpRequest{}) },
		"down":   func() error { return client.Down(t.Context()) },
		"logout": func() error { return client.Logout(t.Context(), LogoutRequest{}) },
		"ping": func() error {
			return client.Ping(t.Context(), PingRequest{}, func(PingReply) error { return nil })
		},
	}
	for name, call := range calls {
		var got *Error
		if err := call(); !errors.As(err, &got) || got.Code != 4 || got.Message != d.err.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.err = errors.New("something else")
	var got *Error
	if err := client.Down(t.Context()); !errors.As(err, &got) || got.Code != 1 {
		t.Errorf("an error without a code: %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	client := NewClient(filepath.Join(t.TempDir(), "no.sock"))
	if _, err := client.Status(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v, want ErrUnreachable", err)
	}
}

func TestRequestThatIsGivenUpEnds(t *testing.T) {
	client, _ := serve(t, &fakeDaemon{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Wait(ctx, WaitRequest{For: "ready"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestSocketOfTheDeadIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	config := ServerConfig{Logger: slog.New(slog.DiscardHandler), Socket: socket, Daemon: &fakeDaemon{}}
	if _, err := Listen(t.Context(), config); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("a living socket: %v", err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := Listen(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), config); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the place of the socket: %v", err)
	}
}

func TestCallerIsKnown(t *testing.T) {
	server, client := net.Pipe()
	defer func() { _ = errors.Join(server.Close(), client.Close()) }()
	if _, err := callerID(server); err == nil {
		t.Error("the caller on a pipe is known")
	}
	if err := mayChange(context.WithValue(t.Context(), connKey{}, server), ""); err == nil {
		t.Error("a caller that nobody knows may change things")
	}
}

func TestSettingsReachTheDaemon(t *testing.T) {
	d := &fakeDaemon{}
	client, _ := serve(t, d)
	got, err := client.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.Settings(t.Context()), got); diff != "" {
		t.Error(diff)
	}
	want := SetRequest{Settings: map[string]string{"dns": "off"}}
	answer, err := client.Set(t.Context(), want)
	if err != nil || len(answer.Hidden) != 1 {
		t.Errorf("%+v, %v", answer, err)
	}
	if diff := cmp.Diff(want, d.set); diff != "" {
		t.Error(diff)
	}
	if err := errors.Join(client.Reload(t.Context()), client.SetLevel(t.Context(), LevelRequest{Level: "debug"})); err != nil {
		t.Error(err)
	}
}

func TestQuestionsReachTheDaemon(t *testing.T) {
	client, _ := serve(t, &fakeDaemon{})
	who, whoErr := client.Whois(t.Context(), WhoisRequest{Address: "db-1"})
	access, accessErr := client.Access(t.Context(), FlowRequest{Source: "a", Port: 7})
	trace, traceErr := client.Trace(t.Context(), FlowRequest{Direction: "in"})
	report, reportErr := client.Netcheck(t.Context(), NetcheckRequest{STUN: []string{"h:1"}})
	if debug, err := client.Debug(t.Context()); err != nil || debug.Log != "line" {
		t.Errorf("%+v, %v", debug, err)
	}
	if err := errors.Join(whoErr, accessErr, traceErr, reportErr); err != nil {
		t.Fatal(err)
	}
	if who.Name != "db-1" || access.Source != "a" || access.Port != 7 || len(trace.Steps) != 1 || trace.Steps[0].Step != "in" || report.Servers[0].Host != "h:1" {
		t.Errorf("%+v %+v %+v", who, access, trace)
	}
}

func TestStatusIsWatched(t *testing.T) {
	d := &fakeDaemon{changed: make(chan struct{}), state: StateConnecting}
	client, _ := serve(t, d)
	enough := errors.New("enough")
	var states []string
	err := client.WatchStatus(t.Context(), func(s Status) error {
		states = append(states, s.State)
		if len(states) == 2 {
			return enough
		}
		d.state = StateOffline
		close(d.changed)
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(states, []string{StateConnecting, StateOffline}) {
		t.Errorf("%v, %v", states, err)
	}
}

func TestOperator(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skipf("SKIPPED: no user database here: %v", err)
	}
	uid, err := strconv.Atoi(me.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if !isUser(me.Username, uid) || isUser(me.Username, uid+1) || isUser("", uid) || isUser("no-such-user", uid) {
		t.Error("the operator is not recognised by name and number")
	}
}
