package connectivity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostileSignals feeds the running handler what a control plane, or a peer
// of the network, may send to do harm: it goes on, keeps little, and the path
// that there is stays.
func TestHostileSignals(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.reaches(t, b)
	a.onPath(t, b, PathDirect)

	// What nobody can open: forged, cut, huge, and from peers that do not exist.
	for i := range 1000 {
		a.paths.HandleSignal("b", bytes.Repeat([]byte{byte(i)}, i))
		a.paths.HandleSignal(fmt.Sprint("nobody-", i), bytes.Repeat([]byte{1}, MaximumBox+i-500))
	}
	a.paths.HandleSignal("b", make([]byte, 64<<20))

	// What b itself may have sealed: no hello at all, hostile ones, again and in
	// another order.
	later, err := newSealer(b.key, a.key.Public(), b.paths.started)
	if err != nil {
		t.Fatal(err)
	}
	later.counter = 1 << 32 // beyond what b has used
	session := strings.Repeat("ab", sessionLength/2)
	var boxes [][]byte
	for _, message := range []string{
		"", "{", "null", "[]", `{"session":"x"}`, `{"session":1}`, strings.Repeat(`{"a":`, 1000),
		fmt.Sprintf(`{"session":%q,"ufrag":"u"}`, session),
		fmt.Sprintf(`{"session":%q,"relayed":"256.0.0.1:1"}`, session),
		fmt.Sprintf(`{"session":%q,"relayed":"[::1]:0"}`, session),
		fmt.Sprintf(`{"session":%q,"answers":%q,"ufrag":"u","password":"p","candidates":%s}`, session, session, candidates(t, "no candidate", maximumCandidates)),
		fmt.Sprintf(`{"session":%q,"ufrag":"u","password":"p","candidates":%s}`, session, candidates(t, "a", maximumCandidates+1)),
	} {
		box, err := later.seal([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, box)
	}
	for range 3 {
		slices.Reverse(boxes)
		for _, box := range boxes {
			a.paths.HandleSignal("b", box)
		}
	}
	a.inLoop(func(context.Context) {
		size := 0
		for _, held := range a.paths.held {
			size += len(held.box)
		}
		if len(a.paths.held) > heldLimit || size > heldLimit*MaximumBox {
			t.Errorf("%d messages of unknown peers are held, %d bytes", len(a.paths.held), size)
		}
		if len(a.paths.pairs) != 1 {
			t.Errorf("%d pairs", len(a.paths.pairs))
		}
		// Those of unknown peers are not held for ever.
		a.paths.tick(t.Context(), time.Now().Add(2*heldAge))
		if len(a.paths.held) != 0 {
			t.Errorf("%d messages of unknown peers stay", len(a.paths.held))
		}
	})
	a.reaches(t, b)
	b.reaches(t, a)
}

func candidates(t *testing.T, text string, n int) string {
	t.Helper()
	raw, err := json.Marshal(slices.Repeat([]string{text}, n))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
