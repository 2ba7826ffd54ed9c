// Package bustest is the conformance suite of buses.
package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/bus"
)

// Run checks that the buses that open returns behave as package bus says. Each test opens its own.
func Run(t *testing.T, open func(t *testing.T) bus.Bus) {
	tests := map[string]func(*testing.T, bus.Bus){
		"publish reaches every subscription": publishReachesAll,
		"messages keep their order":          keepsOrder,
		"requests are answered":              requestIsAnswered,
		"nobody listens":                     nobodyListens,
		"a cancelled subscription is silent": cancelledIsSilent,
		"bad messages are refused":           refusesBad,
		"a closed bus refuses":               closedRefuses,
		"concurrent use":                     concurrentUse,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() { _ = b.Close() })
			test(t, b)
		})
	}
}

// A recorder collects what handlers get.
type recorder struct {
	mu  sync.Mutex
	got []string
	all chan struct{} // closed when want messages are here
}

func record(want int) (*recorder, bus.Handler) {
	r := &recorder{all: make(chan struct{})}
	return r, func(data []byte) []byte {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, string(data))
		if len(r.got) == want {
			close(r.all)
		}
		return append([]byte("re: "), data...)
	}
}

func (r *recorder) wait(t *testing.T) []string {
	t.Helper()
	select {
	case <-r.all:
	case <-time.After(10 * time.Second):
		t.Fatal("messages are missing after 10 s")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func subscribe(t *testing.T, b bus.Bus, subject string, handler bus.Handler) func() {
	t.Helper()
	cancel, err := b.Subscribe(subject, handler)
	if err != nil {
		t.Fatal(err)
	}
	return cancel
}

func publishReachesAll(t *testing.T, b bus.Bus) {
	first, one := record(1)
	second, two := record(1)
	subscribe(t, b, "hint.a1", one)
	subscribe(t, b, "hint.a1", two)
	other, three := record(1)
	subscribe(t, b, "hint.a2", three)
	if err := b.Publish(t.Context(), "hint.a1", []byte("7")); err != nil {
		t.Fatal(err)
	}
	first.wait(t)
	second.wait(t)
	if len(other.got) != 0 {
		t.Errorf("another subject got %q", other.got)
	}
}

func keepsOrder(t *testing.T, b bus.Bus) {
	const messages = 200
	r, handler := record(messages)
	subscribe(t, b, "hint.a1", handler)
	var want []string
	for i := range messages {
		want = append(want, fmt.Sprint(i))
		if err := b.Publish(t.Context(), "hint.a1", []byte(want[i])); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.wait(t); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func requestIsAnswered(t *testing.T, b bus.Bus) {
	r, handler := record(1)
	subscribe(t, b, "signal.a1.p1", handler)
	reply, err := b.Request(t.Context(), "signal.a1.p1", []byte("box"))
	if err != nil || string(reply) != "re: box" {
		t.Errorf("got reply %q, error %v", reply, err)
	}
	if got := r.wait(t); len(got) != 1 {
		t.Errorf("the handler ran %d times", len(got))
	}
}

func nobodyListens(t *testing.T, b bus.Bus) {
	if err := b.Publish(t.Context(), "hint.a1", nil); err != nil {
		t.Errorf("publish: %v", err)
	}
	if _, err := b.Request(t.Context(), "signal.a1.p1", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("request: got %v", err)
	}
}

func cancelledIsSilent(t *testing.T, b bus.Bus) {
	r, handler := record(1)
	cancel := subscribe(t, b, "signal.a1.p1", handler)
	cancel()
	cancel()
	if _, err := b.Request(t.Context(), "signal.a1.p1", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("request: got %v", err)
	}
	if len(r.got) != 0 {
		t.Errorf("the handler got %q", r.got)
	}
}

func refusesBad(t *testing.T, b bus.Bus) {
	for _, subject := range []string{"", "a..b", ".a", "a.", "a b", "a.*", "a.>"} {
		if err := b.Publish(t.Context(), subject, nil); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("publish to %q: got %v", subject, err)
		}
		if _, err := b.Subscribe(subject, func([]byte) []byte { return nil }); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("subscribe to %q: got %v", subject, err)
		}
	}
	large := bytes.Repeat([]byte("x"), bus.MaxMessage+1)
	if _, err := b.Request(t.Context(), "a", large); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("a large request: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Request(ctx, "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: got %v", err)
	}
}

func closedRefuses(t *testing.T, b bus.Bus) {
	r, handler := record(1)
	cancel := subscribe(t, b, "a", handler)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := b.Publish(t.Context(), "a", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish: got %v", err)
	}
	if _, err := b.Subscribe("a", handler); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("subscribe: got %v", err)
	}
	if len(r.got) != 0 {
		t.Errorf("the handler got %q", r.got)
	}
}

func concurrentUse(t *testing.T, b bus.Bus) {
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			subject := fmt.Sprintf("signal.a1.p%d", worker%3)
			for range 50 {
				cancel, err := b.Subscribe(subject, func([]byte) []byte { return nil })
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := b.Request(t.Context(), subject, []byte("x")); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	group.Wait()
}
