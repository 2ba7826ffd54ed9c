package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
)

// A stubbornDisk flushes when it is told to, with the fault that it is given.
type stubbornDisk struct {
	sqlite
	asked chan struct{} // one for each flush that begins
	end   chan error    // ends one
}

func (d stubbornDisk) flush(path string) error {
	d.asked <- struct{}{}
	return errors.Join(<-d.end, d.sqlite.flush(path))
}

func openStubborn(t *testing.T, path string) (*Store, stubbornDisk) {
	t.Helper()
	d := stubbornDisk{asked: make(chan struct{}), end: make(chan error)}
	s, err := openAs(t.Context(), config(path), d)
	return closing(t, s, err), d
}

// insertAccount writes a row and tells when it was brought into memory.
func insertAccount(ctx context.Context, s *Store, id string, applied *[]string) error {
	a := someAccount(id)
	return s.Write(ctx, func(tx *Tx) error {
		tx.After(func() { *applied = append(*applied, id) })
		return Accounts.Insert(ctx, tx, &a)
	})
}

func TestWriteIsAnsweredWhenItIsOnTheDisk(t *testing.T) {
	s, disk := openStubborn(t, filepath.Join(t.TempDir(), "control.db"))
	var applied []string // by the settler, which is waited for below
	answered := make(chan error, 1)
	go func() { answered <- insertAccount(t.Context(), s, "a", &applied) }()
	<-disk.asked
	select {
	case err := <-answered:
		t.Fatal("answered before it was on the disk:", err)
	default:
	}
	if len(applied) != 0 {
		t.Fatal("in memory before it was on the disk")
	}
	disk.end <- nil
	if err := <-answered; err != nil || len(applied) != 1 {
		t.Fatal(err, applied)
	}
}

func TestWritesRunWhileTheDiskIsBusy(t *testing.T) {
	s, disk := openStubborn(t, filepath.Join(t.TempDir(), "control.db"))
	var applied []string
	var wait sync.WaitGroup
	ran := make(chan struct{})
	write := func(id string) {
		wait.Go(func() {
			a := someAccount(id)
			err := s.Write(t.Context(), func(tx *Tx) error {
				tx.After(func() { applied = append(applied, id) })
				ran <- struct{}{}
				return Accounts.Insert(t.Context(), tx, &a)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	write("first")
	<-ran
	<-disk.asked
	const more = 5
	for i := range more { // the disk is busy all the time
		write(fmt.Sprint(i))
		<-ran
	}
	disk.end <- nil
	<-disk.asked // one turn for all of them
	if len(applied) != 1 || applied[0] != "first" {
		t.Errorf("%v are in memory while the disk is busy with all others", applied)
	}
	disk.end <- nil
	wait.Wait()
	if len(applied) != 1+more {
		t.Errorf("%v are in memory", applied)
	}
}

func TestDiskThatFailsEndsTheWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	s, disk := openStubborn(t, path)
	var applied []string
	answered := make(chan error, 1)
	go func() { answered <- insertAccount(t.Context(), s, "a", &applied) }()
	<-disk.asked
	disk.end <- fmt.Errorf("%w: a broken cable", ErrDisk)
	if err := <-answered; !errors.Is(err, ErrDisk) || !Unavailable(err) {
		t.Fatal(err)
	}
	if err := insertAccount(t.Context(), s, "b", &applied); !errors.Is(err, ErrDisk) {
		t.Fatal("went on after a loss:", err)
	}
	if len(applied) != 0 {
		t.Fatal("in memory and perhaps not on the disk:", applied)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if err := insertAccount(t.Context(), again, "b", &applied); err != nil {
		t.Fatal("the next start does not go on from what there is:", err)
	}
}

func TestTransactionThatWaitsForTheDiskIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := make(chan struct{}, 1)
		w := &writing{store: &Store{dialect: sqlite{}, queue: make(chan *write, 2*batchLimit)}, disk: disk}
		for range 2 * batchLimit {
			w.store.queue <- new(write)
		}
		joined := make(chan int)
		go func() {
			n := 0
			for w.join() {
				n++
			}
			joined <- n
		}()
		synctest.Wait()
		disk <- struct{}{}
		if n := <-joined; n != batchLimit || !w.turn {
			t.Errorf("%d writes, its turn: %t", n, w.turn)
		}
	})
}
