package store

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTransactionWaitsForThoseWhoSharedTheLast(t *testing.T) {
	const patience = time.Millisecond
	for name, test := range map[string]struct {
		expected int                   // callers of the last transaction
		first    write                 // what begins the batch
		queued   []write               // what is there already
		arriving map[time.Duration]int // callers that come back, after how long
		size     int
		waited   time.Duration
	}{
		"alone":                               {expected: 1, size: 1},
		"alone after nobody":                  {expected: 0, size: 1},
		"all are there":                       {expected: 3, queued: make([]write, 2), size: 3},
		"more than expected":                  {expected: 2, queued: make([]write, 4), size: 5},
		"the other half comes back":           {expected: 4, queued: make([]write, 1), arriving: map[time.Duration]int{patience / 4: 1, patience / 2: 1}, size: 4, waited: patience / 2},
		"one stays away":                      {expected: 3, arriving: map[time.Duration]int{patience / 4: 1}, size: 2, waited: patience},
		"late comers take the next one":       {expected: 3, arriving: map[time.Duration]int{2 * patience: 2}, size: 1, waited: patience},
		"nobody waits for a background write": {expected: 3, first: write{later: true}, size: 1},
		"a background write is no company":    {expected: 2, queued: []write{{later: true}}, arriving: map[time.Duration]int{patience / 2: 1}, size: 3, waited: patience / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Store{queue: make(chan *write, queueLimit)}
				for i := range test.queued {
					s.queue <- &test.queued[i]
				}
				var arriving sync.WaitGroup
				for after, n := range test.arriving {
					arriving.Go(func() {
						time.Sleep(after)
						for range n {
							s.queue <- new(write)
						}
					})
				}
				defer arriving.Wait()
				begin := time.Now()
				batch := s.gather(&test.first, company{callers: test.expected, patience: patience})
				if waited := time.Since(begin); len(batch) != test.size || waited != test.waited {
					t.Errorf("a batch of %d after %v, want %d after %v", len(batch), waited, test.size, test.waited)
				}
			})
		})
	}
}

func TestTransactionTakesNoMoreThanItsLimit(t *testing.T) {
	s := &Store{queue: make(chan *write, queueLimit)}
	for range 2 * batchLimit {
		s.queue <- new(write)
	}
	if batch := s.gather(new(write), left(queueLimit, time.Second)); len(batch) != batchLimit {
		t.Errorf("a batch of %d", len(batch))
	}
	if got := left(queueLimit, time.Second); got.callers != batchLimit || got.patience != patienceLimit {
		t.Errorf("%+v", got)
	}
}
