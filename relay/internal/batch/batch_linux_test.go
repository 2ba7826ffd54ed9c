package batch

import (
	"bytes"
	"errors"
	"testing"
)

// A socket that does not cut messages sends the same datagrams one by one.
func TestWithoutSegmentation(t *testing.T) {
	a, from := listen(t, "127.0.0.1:0")
	b, to := listen(t, "127.0.0.1:0")
	out := NewOutbox()
	head, body := []byte("head"), bytes.Repeat([]byte("x"), 1000)
	for range 5 {
		out.Add(to, head, body)
	}
	out.Add(to, nil, body[:10])
	if lost := a.refused(out, &out.trains[0], errors.New("of the test")); lost != 0 {
		t.Fatalf("%d lost", lost)
	}
	got := receive(t, b, 6, from)
	for i := range 5 {
		if !bytes.Equal(got[i], append([]byte("head"), body...)) {
			t.Errorf("datagram %d has %d bytes", i, len(got[i]))
		}
	}
	if len(got[5]) != 10 {
		t.Errorf("the last has %d bytes", len(got[5]))
	}
}
