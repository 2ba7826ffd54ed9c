package connectivity

import (
	"context"
	"sync"
)

// A mailbox is the queue of work for the loop. It has no bound of its own:
// what is put in is bounded by peers, tasks and the signals the stream delivers.
type mailbox struct {
	ready chan struct{}
	state *mailboxState
}

type mailboxState struct {
	mu     sync.Mutex // guards all below
	work   []func(ctx context.Context)
	closed bool
}

func newMailbox() mailbox {
	return mailbox{ready: make(chan struct{}, 1), state: &mailboxState{}}
}

func (m mailbox) put(work func(ctx context.Context)) {
	m.state.mu.Lock()
	if !m.state.closed {
		m.state.work = append(m.state.work, work)
	}
	m.state.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m mailbox) take() []func(ctx context.Context) {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	work := m.state.work
	m.state.work = nil
	return work
}

func (m mailbox) close() {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	m.state.closed, m.state.work = true, nil
}
