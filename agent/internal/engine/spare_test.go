package engine

import (
	"runtime"
	"testing"
)

func TestSpareIsGivenBackAtRest(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	looks := []struct {
		what          string
		held, carried uint64
		due           bool
	}{
		{"after the start", 40 * mib, 0, true},
		{"nothing has grown", 20 * mib, 0, false},
		{"a status was asked for", 20*mib + 4096, 10 * mib, false},
		{"while a file is copied", 180 * mib, 900 * mib, false},
		{"while another one is", 180 * mib, 1800 * mib, false},
		{"when it is done", 180 * mib, 1810 * mib, true},
		{"beside a call", 30 * mib, 1850 * mib, true},
		{"with a new device", 30 * mib, 5 * mib, true},
	}
	s := spare{}
	for _, look := range looks {
		if due := s.grown(look.held) && s.rests(look.carried); due != look.due {
			t.Errorf("%s: due %v, want %v", look.what, due, look.due)
		}
		s.held = 20 * mib
	}
}

func TestSpareReachesTheSystem(t *testing.T) {
	const size = 64 << 20
	s := spare{}
	s.giveBack()
	before := s.held
	taken := make([]byte, size)
	if held := holding(); !s.grown(held) || held < before+size/2 { // the runtime gives back by itself, too
		t.Fatalf("the process holds %d bytes, %d before it took %d", held, before, size)
	}
	runtime.KeepAlive(taken)
	if s.giveBack(); s.held > before+size/2 {
		t.Errorf("the process holds %d bytes after it has given back, %d before", s.held, before)
	}
}
