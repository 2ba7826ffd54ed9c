package claim

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestOneHolder(t *testing.T) {
	name := fmt.Sprintf("test %d", time.Now().UnixNano())
	first, err := Take(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(name); !errors.Is(err, Taken{Name: name}) {
		t.Errorf("a second claim: %v", err)
	}
	other, err := Take(name + " beside")
	if err != nil {
		t.Fatal("another name:", err)
	}
	if err := errors.Join(first.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	next, err := Take(name)
	if err != nil {
		t.Fatal("after the first has let go:", err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}
