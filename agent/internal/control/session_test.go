package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/klauspost/compress/zstd"

	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

const issuer = "https://issuer.example"

// plane is a small control plane that says what a test tells it to say.
type plane struct {
	t       *testing.T
	server  *httptest.Server
	mine    *identity.Identity
	date    func() time.Time // the server's clock
	blobs   map[string][]byte
	streams chan *stream // one for each stream that was opened
	reports chan api.StatusReport
	signals chan api.SignalRequest

	mu      sync.Mutex // guards fetched and refuse
	fetched []string
	refuse  int // the next streams are answered with 503
}

// stream is the server's end of a stream.
type stream struct {
	query map[string]string
	lines chan any
}

func newPlane(t *testing.T) *plane {
	mine, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	mine.PeerID, mine.Issuer, mine.Epoch = "p1", issuer, "0001-a"
	p := &plane{
		t: t, mine: mine, date: time.Now, blobs: map[string][]byte{},
		streams: make(chan *stream, 16), reports: make(chan api.StatusReport, 16), signals: make(chan api.SignalRequest, 16),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /agent/v1/stream", p.stream)
	mux.HandleFunc("GET /agent/v1/blobs/{sha256}", p.blob)
	mux.HandleFunc("POST /agent/v1/status", post(p.reports))
	mux.HandleFunc("POST /agent/v1/signal", post(p.signals))
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", p.date().UTC().Format(http.TimeFormat))
		if problem := p.authenticate(r); problem != "" {
			answer := api.NewProblem(problem)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(answer.Status)
			_ = json.NewEncoder(w).Encode(answer)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { p.server.CloseClientConnections(); p.server.Close() })
	mine.ManagementURL = p.server.URL
	return p
}

// authenticate checks the token as the contract says it is made.
func (p *plane) authenticate(r *http.Request) string {
	token, err := jwt.ParseSigned(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return api.ProblemUnauthenticated
	}
	var claims jwt.Claims
	if err := token.Claims(p.mine.MachineKey.Private().Public(), &claims); err != nil {
		return api.ProblemUnauthenticated
	}
	expected := jwt.Expected{Issuer: "p1", Subject: "p1", AnyAudience: jwt.Audience{issuer}, Time: p.date()}
	if err := claims.ValidateWithLeeway(expected, 30*time.Second); err != nil {
		return api.ProblemClockSkew
	}
	if claims.ID == "" || claims.Expiry.Time().Sub(claims.IssuedAt.Time()) > 5*time.Minute {
		return api.ProblemUnauthenticated
	}
	return ""
}

func post[T any](into chan T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		into <- body
		_, _ = io.WriteString(w, "{}")
	}
}

func (p *plane) stream(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	refuse := p.refuse > 0
	if refuse {
		p.refuse--
	}
	p.mu.Unlock()
	if refuse {
		http.Error(w, "later", http.StatusBadGateway)
		return
	}
	s := &stream{query: map[string]string{}, lines: make(chan any, 16)}
	for name := range r.URL.Query() {
		s.query[name] = r.URL.Query().Get(name)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_ = http.NewResponseController(w).Flush()
	p.streams <- s
	for {
		select {
		case line, open := <-s.lines:
			if !open {
				return
			}
			_ = json.NewEncoder(w).Encode(line)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (p *plane) blob(w http.ResponseWriter, r *http.Request) {
	hash := r.PathValue("sha256")
	p.mu.Lock()
	p.fetched = append(p.fetched, hash)
	p.mu.Unlock()
	raw, ok := p.blobs[hash]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(raw)
}

// put stores a part of a snapshot.
func (p *plane) put(kind api.BlobRefKind, part any) api.BlobRef {
	raw, err := json.Marshal(part)
	if err != nil {
		p.t.Fatal(err)
	}
	writer, err := zstd.NewWriter(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	hash := hex.EncodeToString(sum[:])
	p.blobs[hash] = writer.EncodeAll(raw, nil)
	return api.BlobRef{Sha256: hash, Kind: kind, Bytes: int64(len(p.blobs[hash]))}
}

var self = api.SelfView{N: 1, Id: "p1", Name: "one", Ip: "100.64.0.1", Network: "100.64.0.0/16", Approved: true}

func entry(n uint32) api.PeerEntry {
	return api.PeerEntry{N: n, Id: fmt.Sprint("p", n), Name: fmt.Sprint("m", n), Ip: fmt.Sprint("100.64.0.", n), Key: "k"}
}

// ref makes a snapshot that shows the given peers.
func (p *plane) ref(epoch string, serial int64, peers ...uint32) api.SnapshotRefEvent {
	p.t.Helper()
	directory := api.DirectoryBlob{Peers: []api.PeerEntry{}}
	members := append([]uint32{}, peers...)
	for _, n := range peers {
		directory.Peers = append(directory.Peers, entry(n))
	}
	event := api.SnapshotRefEvent{
		Type: "snapshot_ref", Epoch: epoch, Serial: serial, Self: self,
		Blobs: []api.BlobRef{
			p.put("directory", directory),
			p.put("sets", api.SetsBlob{Sets: []api.PeerSet{{Id: "s", Members: api.Ordinals{List: &members}}}}),
			p.put("view", api.ViewBlob{Rules: []api.CompiledRule{{
				Id: "r", Direction: "in", Source: "s", Destination: "d", Action: "accept", Protocol: "all",
			}}}),
		},
	}
	// The digest of a map is known once it was loaded.
	event.Digest = strings.Repeat("0", 32)
	_, err := mapstate.Load(event, func(part api.BlobRef) ([]byte, error) { return p.blobs[part.Sha256], nil })
	if _, after, found := strings.Cut(fmt.Sprint(err), " gives "); found {
		event.Digest = after[:32]
	}
	return event
}

func hello(epoch string) api.HelloEvent {
	return api.HelloEvent{
		Type: "hello", Api: 1, Epoch: epoch, HeartbeatSeconds: 40, Features: []string{},
		Relays: []api.RelayServer{{Id: "r1", Urls: []string{"turn:192.0.2.1:3478"}}},
	}
}

// agent is a running session.
type agent struct {
	maps   chan *mapstate.Map
	states chan State
	relays chan []api.RelayServer
	boxes  chan string
	ended  chan error

	session *Session
}

func (p *plane) run(last *mapstate.Map) *agent {
	p.t.Helper()
	client, err := NewClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), UserAgent: "test", Identity: p.mine})
	if err != nil {
		p.t.Fatal(err)
	}
	a := &agent{
		maps: make(chan *mapstate.Map, 16), states: make(chan State, 64), relays: make(chan []api.RelayServer, 16),
		boxes: make(chan string, 16), ended: make(chan error, 1),
	}
	session, err := NewSession(SessionConfig{
		Logger: slog.New(slog.DiscardHandler), Client: client, Facts: Machine{AgentVersion: "test"}.Facts, Map: last, Epoch: p.mine.Epoch,
		OnMap:    func(m *mapstate.Map) { a.maps <- m },
		OnRelays: func(r []api.RelayServer) { a.relays <- r },
		OnSignal: func(from string, box []byte) { a.boxes <- from + " " + string(box) },
		OnState:  func(s State) { a.states <- s },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	a.session = session
	ctx, cancel := context.WithCancel(context.Background())
	go func() { a.ended <- session.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		p.t.Logf("session: %v", <-a.ended)
	})
	return a
}

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// next waits for something that must come.
func next[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s came", what)
		panic("unreachable")
	}
}

// until waits for a state that must come.
func (a *agent) until(t *testing.T, what string, holds func(State) bool) State {
	t.Helper()
	for {
		if s := next(t, what, a.states); holds(s) {
			return s
		}
	}
}

func TestSnapshotDeltaAndResume(t *testing.T) {
	p := newPlane(t)
	a := p.run(nil)
	s := next(t, "stream", p.streams)
	if len(s.query) != 1 || s.query["features"] != strings.Join(mapstate.Features(), ",") {
		t.Errorf("the first stream asked with %v", s.query)
	}
	s.lines <- hello("0001-a")
	if relays := next(t, "relays", a.relays); relays[0].Id != "r1" {
		t.Errorf("relays %v", relays)
	}
	s.lines <- p.ref("0001-a", 5, 2)
	s.lines <- api.CaughtUpEvent{Type: "caught_up", Serial: 5}
	if m := next(t, "map", a.maps); m.Serial != 5 || m.Peers.Len() != 1 {
		t.Fatalf("map %+v", m)
	}
	a.until(t, "caught up", func(s State) bool { return s.Connected && s.CaughtUp && s.Err == nil })
	if report := next(t, "report", p.reports); report.Applied == nil || report.Applied.Serial != 5 {
		t.Errorf("report %+v", report)
	}

	// A delta to the map of another snapshot, whose digest is known.
	after := p.ref("0001-a", 6, 2, 3)
	third, members := entry(3), []uint32{3}
	set := "s"
	s.lines <- api.DeltaEvent{Type: "delta", Prev: 5, Serial: 6, Digest: after.Digest, Ops: []api.MapOp{
		{Op: "peer_upsert", Peer: &third}, {Op: "set_patch", Set: &set, Add: &api.Ordinals{List: &members}},
	}}
	if m := next(t, "map", a.maps); m.Serial != 6 || m.Peers.Len() != 2 {
		t.Fatalf("map %+v", m)
	}
	s.lines <- api.SignalEvent{Type: "signal", From: "p2", Box: []byte("box")}
	if got := next(t, "signal", a.boxes); got != "p2 box" {
		t.Errorf("signal %q", got)
	}

	close(s.lines) // the server goes away
	s = next(t, "second stream", p.streams)
	if s.query["epoch"] != "0001-a" || s.query["serial"] != "6" || s.query["digest"] != after.Digest {
		t.Errorf("resumed with %v", s.query)
	}
	p.mu.Lock()
	before := len(p.fetched)
	p.mu.Unlock()
	s.lines <- hello("0001-a")
	s.lines <- p.ref("0001-a", 7, 2)
	if m := next(t, "map", a.maps); m.Serial != 7 {
		t.Errorf("map %+v", m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fetched) != before {
		t.Errorf("parts that were kept were read again: %v", p.fetched[before:])
	}
}

func TestDifferentDigestKeepsTheMap(t *testing.T) {
	p := newPlane(t)
	a := p.run(nil)
	s := next(t, "stream", p.streams)
	s.lines <- hello("0001-a")
	s.lines <- p.ref("0001-a", 5, 2)
	s.lines <- api.CaughtUpEvent{Type: "caught_up", Serial: 5}
	next(t, "map", a.maps)
	next(t, "report", p.reports)
	third := entry(3)
	s.lines <- api.DeltaEvent{Type: "delta", Prev: 5, Serial: 6, Digest: strings.Repeat("a", 32), Ops: []api.MapOp{{Op: "peer_upsert", Peer: &third}}}
	report := next(t, "report", p.reports)
	if report.DigestMismatch == nil || !*report.DigestMismatch || report.Applied.Serial != 5 {
		t.Errorf("report %+v", report)
	}
	s = next(t, "second stream", p.streams)
	if s.query["serial"] != "" || s.query["digest"] != "" {
		t.Errorf("asked with %v, want a snapshot", s.query)
	}
	s.lines <- hello("0001-a")
	s.lines <- p.ref("0001-a", 6, 2, 3)
	if m := next(t, "map", a.maps); m.Serial != 6 || m.Peers.Len() != 2 {
		t.Errorf("map %+v", m)
	}
}

func TestOlderHistoryIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		hello, epoch string
		serial       int64
	}{
		"epoch":  {"0000-f", "0000-f", 9},
		"serial": {"0001-a", "0001-a", 4},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(t)
			last, err := mapstate.Load(p.ref("0001-a", 5, 2), func(part api.BlobRef) ([]byte, error) { return p.blobs[part.Sha256], nil })
			if err != nil {
				t.Fatal(err)
			}
			a := p.run(last)
			s := next(t, "stream", p.streams)
			s.lines <- hello(test.hello)
			s.lines <- p.ref(test.epoch, test.serial, 2)
			a.until(t, "refusal", func(s State) bool { return errors.Is(s.Err, ErrOlder) })
			select {
			case m := <-a.maps:
				t.Errorf("took %+v", m)
			default:
			}
		})
	}
}

func TestRemovedPeerEnds(t *testing.T) {
	p := newPlane(t)
	a := p.run(nil)
	s := next(t, "stream", p.streams)
	s.lines <- hello("0001-a")
	s.lines <- api.ByeEvent{Type: "bye", Reason: "removed"}
	err := next(t, "end", a.ended)
	if !errors.Is(err, ErrRemoved) {
		t.Errorf("ended with %v", err)
	}
	a.ended <- nil // for the cleanup
}

func TestClockThatIsOff(t *testing.T) {
	p := newPlane(t)
	p.date = func() time.Time { return time.Now().Add(-3 * time.Hour) }
	a := p.run(nil)
	s := next(t, "stream", p.streams)
	s.lines <- hello("0001-a")
	state := a.until(t, "connection", func(s State) bool { return s.Connected })
	if off := state.ClockOffset + 3*time.Hour; off.Abs() > 5*time.Second {
		t.Errorf("offset %v, want about -3h", state.ClockOffset)
	}
}

func TestComesBackAfterFailures(t *testing.T) {
	p := newPlane(t)
	p.refuse = 2
	a := p.run(nil)
	s := next(t, "stream", p.streams)
	s.lines <- hello("0001-a")
	a.until(t, "connection", func(s State) bool { return s.Connected })
}

func TestSilentStreamsMakeItPoll(t *testing.T) {
	p := newPlane(t)
	a := p.run(nil)
	for range silentStreams {
		close(next(t, "stream", p.streams).lines)
	}
	s := next(t, "stream", p.streams)
	if s.query["wait"] != "25" {
		t.Errorf("asked with %v, want wait=25", s.query)
	}
	s.lines <- hello("0001-a")
	a.until(t, "connection", func(s State) bool { return s.Connected })
	s.lines <- api.ByeEvent{Type: "bye", Reason: "expired"}
	if s = next(t, "next poll", p.streams); s.query["wait"] != "25" {
		t.Errorf("asked with %v, want wait=25", s.query)
	}
}

func TestWaits(t *testing.T) {
	s := &Session{}
	large := &mapstate.Map{}
	for n := range uint32(2000) {
		large.Peers = large.Peers.With(n, api.PeerEntry{})
	}
	for _, test := range []struct {
		attempt int
		away    time.Duration
		known   *mapstate.Map
		most    time.Duration
	}{
		{0, 0, nil, quickWait},
		{1, time.Second, large, quickWait},
		{2, time.Second, nil, time.Second},
		{9, 4 * time.Second, nil, time.Second},
		{20, 40 * time.Second, nil, 10 * time.Second},
		{99, time.Hour, nil, time.Minute},
		{2, time.Second, large, 20 * time.Second},
	} {
		s.current = test.known
		longest := time.Duration(0)
		for range 1000 {
			longest = max(longest, s.wait(test.attempt, test.away, io.EOF))
		}
		if longest > test.most || longest < test.most/2 {
			t.Errorf("%+v: waits up to %v", test, longest)
		}
	}
	s.bye = &api.ByeEvent{Reason: "shutdown", RetryAfter: 30}
	if wait := s.wait(0, 0, io.EOF); wait < 30*time.Second || wait > 31*time.Second {
		t.Errorf("after bye with 30 s: %v", wait)
	}
}

func TestCompareEpochs(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"0198c3a1f2b0-7f3d", "0198c3a1f2b0-7f3d", 0},
		{"0198c3a1f2b0-7f3d", "0198c3a1f2b1-0000", -1},
		{"198c3a1f2b1-x", "0198c3a1f2b0-7f3d", 1},
		{"0198c3a1f2b0-aaaa", "0198c3a1f2b0-bbbb", 0},
		{"", "0198c3a1f2b0-7f3d", -1},
	} {
		if got := compareEpochs(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func FuzzEvent(f *testing.F) {
	for _, line := range []string{`{"type":"hello","api":1,"epoch":"1-a"}`, `{"type":"delta"}`, `{"type":"snapshot_ref"}`, `{}`, `{"type":"bye"}`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var event api.AgentEvent
		if json.Unmarshal(line, &event) != nil {
			return
		}
		s := &Session{
			log: slog.New(slog.DiscardHandler), blobs: newBlobCache(), report: make(chan struct{}, 1), epoch: "1-a",
			config: SessionConfig{
				Client: &Client{clock: &clock{}}, OnMap: func(*mapstate.Map) {}, OnState: func(State) {},
				OnRelays: func([]api.RelayServer) {}, OnSignal: func(string, []byte) {},
			},
		}
		if kind, _ := event.Discriminator(); kind == "snapshot_ref" {
			return // reads parts from the network
		}
		_ = s.handle(t.Context(), event)
	})
}

// After a sleep of the machine nobody waits for a stream that has long ended.
func TestRenewOpensAnotherStream(t *testing.T) {
	p := newPlane(t)
	a := p.run(nil)
	next(t, "the first stream", p.streams).lines <- hello("0001-a")
	next(t, "relays", a.relays)
	a.session.Renew()
	next(t, "another stream", p.streams)
}
