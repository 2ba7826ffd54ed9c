package connectivity

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pion/stun/v2"
)

// The schedule of RFC 8489, section 6.2.1 with a shorter first timeout: the
// first packet of a pair waits for these answers, and a repeated request costs
// a hundred bytes.
const (
	firstTimeout   = 100 * time.Millisecond
	longestTimeout = 1600 * time.Millisecond
)

var errNoAnswer = errors.New("no answer")

// transactions pairs STUN responses with the requests that wait for them.
type transactions struct {
	mu      sync.Mutex // guards pending
	pending map[[stun.TransactionIDSize]byte]chan *stun.Message
}

func newTransactions() *transactions {
	return &transactions{pending: make(map[[stun.TransactionIDSize]byte]chan *stun.Message)}
}

// deliver hands a response to who waits for it; false when nobody does.
func (t *transactions) deliver(m *stun.Message) bool {
	t.mu.Lock()
	waiting, ok := t.pending[m.TransactionID]
	delete(t.pending, m.TransactionID)
	t.mu.Unlock()
	if ok {
		waiting <- m // has room for one
	}
	return ok
}

// do sends a request and returns its response, success or error. With repeat
// it sends again until the answer comes. When ctx ends it returns errNoAnswer.
func (t *transactions) do(ctx context.Context, request *stun.Message, repeat bool, write func([]byte) error) (*stun.Message, error) {
	answer := make(chan *stun.Message, 1)
	t.mu.Lock()
	t.pending[request.TransactionID] = answer
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.pending, request.TransactionID)
		t.mu.Unlock()
	}()
	timeout := firstTimeout
	failure := write(request.Raw)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case m := <-answer:
			return m, nil
		case <-timer.C:
			if repeat {
				failure = write(request.Raw)
			}
			timeout = min(2*timeout, longestTimeout)
			timer.Reset(timeout)
		case <-ctx.Done():
			return nil, errors.Join(errNoAnswer, failure)
		}
	}
}
