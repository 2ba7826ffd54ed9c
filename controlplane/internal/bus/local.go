package bus

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Local is the bus of one instance: a message is a call.
type Local struct {
	mu            sync.RWMutex // guards all below
	subscriptions map[string][]*subscription
	closed        bool
}

// A subscription runs its handler for one message at a time.
type subscription struct {
	mu      sync.Mutex // held while the handler runs
	handler Handler    // nil once cancelled
}

// NewLocal returns a bus without subscriptions.
func NewLocal() *Local { return &Local{subscriptions: map[string][]*subscription{}} }

var _ Bus = (*Local)(nil)

// Publish implements Bus.
func (l *Local) Publish(ctx context.Context, subject string, data []byte) error {
	listeners, err := l.listeners(ctx, subject, data)
	for _, s := range listeners {
		s.handle(data)
	}
	return err
}

// Request implements Bus.
func (l *Local) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	listeners, err := l.listeners(ctx, subject, data)
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(listeners) {
		if reply, alive := s.handle(data); alive {
			return reply, nil
		}
	}
	return nil, ErrNoResponders
}

// listeners checks a message and returns who is to have it.
func (l *Local) listeners(ctx context.Context, subject string, data []byte) ([]*subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(data) > MaxMessage {
		return nil, ErrTooLarge
	}
	if !valid(subject) {
		return nil, ErrSubject
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	return slices.Clone(l.subscriptions[subject]), nil
}

func (s *subscription) handle(data []byte) (reply []byte, alive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return nil, false
	}
	return s.handler(data), true
}

// Subscribe implements Bus.
func (l *Local) Subscribe(subject string, handler Handler) (func(), error) {
	if !valid(subject) {
		return nil, ErrSubject
	}
	s := &subscription{handler: handler}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.subscriptions[subject] = append(l.subscriptions[subject], s)
	return func() { l.cancel(subject, s) }, nil
}

// cancel returns when the handler does not run and will not run again.
func (l *Local) cancel(subject string, s *subscription) {
	l.mu.Lock()
	left := slices.DeleteFunc(l.subscriptions[subject], func(o *subscription) bool { return o == s })
	if len(left) == 0 {
		delete(l.subscriptions, subject)
	} else {
		l.subscriptions[subject] = left
	}
	l.mu.Unlock()
	s.mu.Lock()
	s.handler = nil
	s.mu.Unlock()
}

// Close implements Bus.
func (l *Local) Close() error {
	l.mu.Lock()
	all := l.subscriptions
	l.subscriptions, l.closed = map[string][]*subscription{}, true
	l.mu.Unlock()
	for _, subscriptions := range all {
		for _, s := range subscriptions {
			s.mu.Lock()
			s.handler = nil
			s.mu.Unlock()
		}
	}
	return nil
}

// valid accepts what every carrier accepts as a plain subject.
func valid(subject string) bool {
	for word := range strings.SplitSeq(subject, ".") {
		if word == "" || strings.ContainsAny(word, " \t\r\n*>") {
			return false
		}
	}
	return true
}
