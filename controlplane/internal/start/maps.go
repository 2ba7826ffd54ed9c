package start

import (
	"context"
	"sync"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/state"
)

// maps shows sessions and signaling the network maps that state keeps. Changes
// of an account are followed from the first time that somebody asks for its
// maps: nobody can have a stream before.
type maps struct {
	state *state.State

	mu       sync.Mutex // guards the fields below
	notify   func(accountID string, update *netmap.Update)
	followed map[string]func() // by account; cancels
}

func newMaps(s *state.State) *maps { return &maps{state: s, followed: map[string]func(){}} }

// Engine returns the maps of an account.
func (m *maps) Engine(_ context.Context, accountID string) (*netmap.Engine, error) {
	engine, err := m.state.Engine(accountID)
	if err != nil {
		return nil, err
	}
	return engine, m.follow(accountID)
}

func (m *maps) follow(accountID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed[accountID] != nil || m.notify == nil {
		return nil
	}
	notify := m.notify
	cancel, err := m.state.Subscribe(accountID, func(update *netmap.Update) { notify(accountID, update) })
	if err != nil {
		return err
	}
	m.followed[accountID] = cancel
	return nil
}

// Subscribe calls notify after each change of an account's maps until cancel
// returns. There is one subscriber.
func (m *maps) Subscribe(notify func(accountID string, update *netmap.Update)) (cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notify = notify
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, stop := range m.followed {
			stop()
		}
		clear(m.followed)
		m.notify = nil
	}
}
