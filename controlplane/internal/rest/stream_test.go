package rest

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The second line is written only after the client has the first: a line that
// waits in a buffer anywhere would hang the test.
func TestEachLineLeavesAtOnce(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			received := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				lines := newLineWriter(w)
				for _, line := range []string{`{"type":"hello"}`, `{"type":"ping"}`} {
					if err := lines.WriteLine([]byte(line + "\n")); err != nil {
						t.Error(err)
					}
					<-received
				}
			}))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()

			response, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if response.Proto != protocol {
				t.Fatalf("spoke %s", response.Proto)
			}
			for header, want := range map[string]string{
				"Content-Type": streamType, "X-Accel-Buffering": "no", "Cache-Control": "no-store, no-transform", "Content-Encoding": "",
			} {
				if got := response.Header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			lines := bufio.NewScanner(response.Body)
			for _, want := range []string{`{"type":"hello"}`, `{"type":"ping"}`} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("line %q, want %q (%v)", lines.Text(), want, lines.Err())
				}
				received <- struct{}{}
			}
			if lines.Scan() {
				t.Errorf("extra line %q", lines.Text())
			}
		})
	}
}

// deadlines notes every write deadline.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func TestNoDeadlineRunsBetweenLines(t *testing.T) {
	response := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	lines := newLineWriter(response)
	for range 2 {
		if err := lines.WriteLine([]byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	for i, at := range response.set {
		if during := i%2 == 0; at.IsZero() == during {
			t.Errorf("deadline %d is %v", i, at)
		}
	}
	if len(response.set) != 4 {
		t.Errorf("%d deadlines for two lines", len(response.set))
	}
}

func TestWritingToAGoneClientFails(t *testing.T) {
	failed := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines := newLineWriter(w)
		err := lines.WriteLine([]byte("{}\n"))
		<-r.Context().Done()
		for err == nil {
			err = lines.WriteLine([]byte("{}\n"))
		}
		failed <- err
	}))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if err := <-failed; err == nil || errors.Is(err, http.ErrNotSupported) {
		t.Errorf("%v", err)
	}
}
