package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/generated/api"
)

// pathsInterval is the time between two writes of what is known about paths, when
// they change all the time; the first pathsBurst are not held up, so that a process
// that is killed soon after it found a way has left it to the next one.
const (
	pathsInterval = 5 * time.Second
	pathsBurst    = 8
)

// A pathMemory lets the next process of this machine find its peers while
// neither the control plane nor the relays answer: where they were reached, and
// the relays with credentials that may still be good.
type pathMemory struct {
	news   chan struct{} // one token: something is to be kept
	former storedPaths   // of the process before

	mu     sync.Mutex // guards relays
	relays []api.RelayServer
}

// storedPaths is the content of the file.
type storedPaths struct {
	Self   string            `json:"self"` // id of this machine, whose paths they are
	Relays []api.RelayServer `json:"relays,omitempty"`
	Peers  []storedPath      `json:"peers,omitempty"`
}

type storedPath struct {
	ID      string         `json:"id"`
	Direct  netip.AddrPort `json:"direct,omitzero"`
	Relayed netip.AddrPort `json:"relayed,omitzero"`
	Awake   bool           `json:"awake,omitempty"`
}

// newPathMemory begins with what the process before has left for the peer self;
// what cannot be read is as good as nothing.
func newPathMemory(log *slog.Logger, store *identity.Store, self string, now time.Time) *pathMemory {
	m := &pathMemory{news: make(chan struct{}, 1)}
	raw, err := store.LoadPaths()
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &m.former)
	}
	if err != nil {
		log.Warn("last paths not usable", "error", err)
	}
	if err != nil || m.former.Self != self {
		m.former = storedPaths{}
	}
	m.former.Relays = slices.DeleteFunc(m.former.Relays, func(r api.RelayServer) bool { return !r.Expires.After(now) })
	m.relays = m.former.Relays
	return m
}

// known is what the paths begin with.
func (m *pathMemory) known() []connectivity.Known {
	list := make([]connectivity.Known, 0, len(m.former.Peers))
	for _, p := range m.former.Peers {
		list = append(list, connectivity.Known{PeerID: p.ID, Direct: p.Direct, Relayed: p.Relayed, Awake: p.Awake})
	}
	return list
}

// learned says that there is something to keep.
func (m *pathMemory) learned() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

func (m *pathMemory) setRelays(relays []api.RelayServer) {
	m.mu.Lock()
	m.relays = relays
	m.mu.Unlock()
	m.learned()
}

// encode writes the file.
func (m *pathMemory) encode(self string, known []connectivity.Known) ([]byte, error) {
	m.mu.Lock()
	content := storedPaths{Self: self, Relays: m.relays}
	m.mu.Unlock()
	for _, k := range known {
		content.Peers = append(content.Peers, storedPath{ID: k.PeerID, Direct: k.Direct, Relayed: k.Relayed, Awake: k.Awake})
	}
	return json.Marshal(content)
}

// savePaths keeps what the paths learn, soon after they have and once more at
// the end.
func (l *link) savePaths(ctx context.Context) {
	pace := rate.NewLimiter(rate.Every(pathsInterval), pathsBurst)
	for {
		select {
		case <-ctx.Done():
		case <-l.memory.news:
		}
		raw, err := l.memory.encode(l.self, l.machine.Paths.Known())
		if err == nil {
			err = l.store.SavePaths(raw)
		}
		if err != nil {
			l.log.Error("paths not kept for the next start", "error", err)
		}
		if ctx.Err() != nil {
			return
		}
		_ = pace.Wait(ctx) // its only error is the end of ctx, which is written once more
	}
}
