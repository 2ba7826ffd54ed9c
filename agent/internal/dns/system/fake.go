package system

import (
	"context"
	"sync"
)

// A Fake is a machine in memory. Its zero value is a machine that asks nobody.
type Fake struct {
	mu     sync.Mutex // guards all below
	set    Config
	former Former
	sets   int
	closed bool
	again  chan struct{}
}

// Set remembers c.
func (f *Fake) Set(_ context.Context, c Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.set.equal(c) {
		f.set = c
		f.sets++
	}
	return nil
}

// Sets returns how often Set changed something.
func (f *Fake) Sets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets
}

// SetFormer makes the machine ask others than before, as when it moves to
// another network.
func (f *Fake) SetFormer(former Former) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.former = former
	select {
	case f.changes() <- struct{}{}:
	default:
	}
}

// changes returns the channel of SetFormer. The caller holds mu.
func (f *Fake) changes() chan struct{} {
	if f.again == nil {
		f.again = make(chan struct{}, 1)
	}
	return f.again
}

// Former returns what SetFormer was given.
func (f *Fake) Former() Former {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.former
}

// Watch calls changed after SetFormer.
func (f *Fake) Watch(ctx context.Context, changed func()) error {
	f.mu.Lock()
	changes := f.changes()
	f.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			changed()
		}
	}
}

// Status tells what was set.
func (f *Fake) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{Kind: "fake", Set: f.set, Former: f.former}
}

// Close forgets what was set.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set, f.closed = Config{}, true
	return nil
}
