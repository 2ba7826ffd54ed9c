package exposition_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/internal/exposition"
)

const served = `# HELP cups Cups of tea.
# TYPE cups counter
cups{of="\"green\"",at="a\\b\nc"} 2
# HELP warm Whether it is warm.
# TYPE warm gauge
warm 1.5
`

func tea(text *exposition.Text) {
	text.Family("cups", "counter", "Cups of tea.").Add(2, "of", `"green"`, "at", "a\\b\nc")
}

func warmth(text *exposition.Text) {
	text.Family("warm", "gauge", "Whether it is warm.").Add(1.5)
}

func TestListenerServesUntilTheEnd(t *testing.T) {
	listener, err := exposition.Listen(t.Context(), "127.0.0.1:0", tea, warmth)
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- listener.Run(ctx) }()
	for path, status := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound} {
		answer, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if answer.StatusCode != status {
			t.Errorf("%s: %s", path, answer.Status)
		}
		if diff := cmp.Diff(served, string(body)); status == http.StatusOK && diff != "" {
			t.Error(diff)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenerOfATakenAddress(t *testing.T) {
	first, err := exposition.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := exposition.Listen(t.Context(), first.Addr().String()); err == nil || !strings.Contains(err.Error(), "--metrics-listen") {
		t.Errorf("a second listener: %v", err)
	}
}

// Programs need not ask whether they were given an address.
func TestNoListener(t *testing.T) {
	none, err := exposition.Listen(t.Context(), "")
	if err != nil || none != nil {
		t.Fatalf("%v, %v", none, err)
	}
	if err := none.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
