package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A portal is the network that wants a login: while it is closed it answers in
// the place of the control plane.
type portal struct {
	closed atomic.Bool
	answer http.HandlerFunc
	plane  http.Handler
}

func (p *portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.closed.Load() {
		p.answer(w, r)
		return
	}
	p.plane.ServeHTTP(w, r)
}

func TestCaptiveNetworkIsNamedAndLeft(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://login.example/welcome", http.StatusFound)
		},
		"page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte("<html>log in</html>"))
		},
		"511": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNetworkAuthenticationRequired) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(t)
			front := &portal{answer: answer, plane: p.server.Config.Handler}
			front.closed.Store(true)
			server := httptest.NewServer(front)
			t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
			p.mine.ManagementURL = server.URL
			a := p.run(nil)
			var state State
			for state = next(t, "a state", a.states); state.Err == nil; state = next(t, "a state with an error", a.states) {
				continue
			}
			if !Foreign(state.Err) || state.Connected {
				t.Fatalf("state %+v, want a foreign answer", state)
			}
			front.closed.Store(false)
			next(t, "a stream after the login", p.streams).lines <- hello("0001-a")
			for state = next(t, "a state", a.states); !state.Connected; state = next(t, "a connected state", a.states) {
				continue
			}
		})
	}
}

func TestForeignCertificates(t *testing.T) {
	other := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for name, c := range map[string]struct{ url, pin string }{
		"another pin":       {other.URL, "sha256:" + strings.Repeat("ab", 32)},
		"unknown authority": {other.URL, ""},
		"no TLS":            {strings.Replace(plain.URL, "http:", "https:", 1), ""},
	} {
		p := newPlane(t)
		p.mine.ManagementURL, p.mine.CAPin = c.url, c.pin
		a := p.run(nil)
		var state State
		for state = next(t, "a state", a.states); state.Err == nil; state = next(t, "a state with an error", a.states) {
			continue
		}
		if !Foreign(state.Err) {
			t.Errorf("%s: %v is not foreign", name, state.Err)
		}
	}
	p := newPlane(t)
	p.server.Close()
	a := p.run(nil)
	if state := next(t, "a state", a.states); state.Err == nil || Foreign(state.Err) {
		t.Errorf("a control plane that is away: %v", state.Err)
	}
}

func TestForeignAnswersAreAskedAgainSoon(t *testing.T) {
	s := &Session{}
	for range 200 {
		if wait := s.wait(50, 10*time.Hour, &ForeignError{Status: 200}); wait > foreignWait {
			t.Fatalf("wait %v, want at most %v", wait, foreignWait)
		}
	}
}

// While the control plane is away for hours an agent asks about twice a minute,
// so that it is back soon and costs nobody anything.
func TestAwayForHours(t *testing.T) {
	s := &Session{}
	const away = 8 * time.Hour
	attempts, longest := 0, time.Duration(0)
	for at := time.Duration(0); at < away; attempts++ {
		wait := s.wait(attempts, at, errSilent)
		longest = max(longest, wait)
		at += wait + 10*time.Millisecond // an attempt takes some time itself
	}
	if perMinute := float64(attempts) / away.Minutes(); perMinute > 3 || longest > longestWait {
		t.Errorf("%.1f attempts a minute, the longest wait %v", perMinute, longest)
	}
}
