package store

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"time"
)

// A write is one queued call of Write.
type write struct {
	ctx    context.Context //nolint:containedctx // the caller waits for the write, so the context lives as long as the call
	fn     func(tx *Tx) error
	after  []func()
	err    error
	answer chan struct{}
	later  bool // nobody waits for it
}

// Write runs fn in a transaction and returns after the commit is on the disk
// and the After functions of fn have run. When fn returns an error, nothing of
// it is kept and Write returns that error. Concurrent writes share a commit but
// not their fate; only a fault of the database itself fails all of them.
//
// fn runs on the writer's goroutine, one at a time: it must not call Write. When
// another instance gets in the way, it runs again from its beginning.
func (s *Store) Write(ctx context.Context, fn func(tx *Tx) error) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	w := &write{ctx: ctx, fn: fn, answer: make(chan struct{})}
	if err := s.enqueue(ctx, w); err != nil {
		return err
	}
	<-w.answer
	return w.err
}

// WriteLater queues fn and does not wait. It is for what may be lost in a
// crash; a failure is logged. Close waits for it.
func (s *Store) WriteLater(ctx context.Context, fn func(tx *Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	return s.enqueue(ctx, &write{ctx: ctx, later: true, answer: make(chan struct{}), fn: func(tx *Tx) error {
		if err := fn(tx); err != nil {
			s.logger.Warn("background write failed", "error", err)
			return err
		}
		return nil
	}})
}

func (s *Store) enqueue(ctx context.Context, w *write) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writer: it owns conn and the prepared statements.
func (s *Store) write(conn *sql.Conn) {
	defer close(s.done)
	committed := make(chan []*write, 4)
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		for batch := range committed {
			answer(batch)
		}
	}()
	w := &writing{store: s, conn: conn, tx: s.newTx(conn)}
	var company company
	for first := range s.queue {
		batch := s.gather(first, company)
		begin := time.Now()
		if err := w.commit(batch); err != nil {
			s.logger.Error("transaction failed", "error", err)
			fail(batch, err)
		}
		company = left(int(s.waiting.Load()), time.Since(begin))
		committed <- batch
	}
	close(committed)
	<-applied
	w.close()
}

func (s *Store) newTx(conn *sql.Conn) *Tx {
	return &Tx{dialect: s.dialect, on: conn, prepared: map[string]*sql.Stmt{}, heads: newHeads()}
}

// A company is who may be expected to share the next transaction. Callers that
// write again as soon as they are answered, as those of Terraform do, would else
// come in two halves that take turns: while one commits, the other waits.
// Together they need half as many commits.
type company struct {
	// callers is how many waited for an answer when the last transaction ended.
	callers int

	// patience is how long the next one waits for them to come back.
	patience time.Duration
}

// left is the company that a transaction leaves behind. A wait never exceeds the
// time that the transaction took, so that a wrong guess costs no more than
// another turn would.
func left(callers int, took time.Duration) company {
	return company{callers: min(callers, batchLimit), patience: min(took, patienceLimit)}
}

// gather takes what else waits already, and waits for its company for a moment.
// A caller that is alone waits for nobody.
func (s *Store) gather(first *write, expected company) []*write {
	batch, callers := []*write{first}, 0
	var enough <-chan time.Time // nil while nobody is waited for
	for {
		if !batch[len(batch)-1].later {
			callers++
		}
		if len(batch) == batchLimit {
			return batch
		}
		select {
		case w, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, w)
			continue
		default:
		}
		if callers == 0 || callers >= expected.callers {
			return batch
		}
		if enough == nil {
			enough = time.After(expected.patience)
		}
		select {
		case w, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, w)
		case <-enough:
			return batch
		}
	}
}

// run turns a panic of one write into its error: the neighbours go on.
func run(fn func(tx *Tx) error, tx *Tx) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("write panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return fn(tx)
}

// fail gives every write of a batch the fault that undid all of them. Also those
// that were refused: the reason may have been a neighbour that is undone now.
func fail(batch []*write, err error) {
	for _, w := range batch {
		w.err, w.after = err, nil
	}
}

func answer(batch []*write) {
	for _, w := range batch {
		if w.err == nil {
			for _, fn := range w.after {
				fn()
			}
		}
		close(w.answer)
	}
}
