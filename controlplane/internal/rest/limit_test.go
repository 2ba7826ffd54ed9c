package rest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/internal/program"
)

func TestEachCallerHasItsOwnAllowance(t *testing.T) {
	limit, now := newRateLimit(2), time.Now()
	for i := range 2 * burstSeconds {
		if wait := limit.take("a", now); wait != 0 {
			t.Fatalf("request %d of the allowance waits %s", i, wait)
		}
	}
	wait := limit.take("a", now)
	if wait <= 0 || wait > time.Second {
		t.Errorf("over the rate: %s", wait)
	}
	if wait := limit.take("b", now); wait != 0 {
		t.Errorf("another caller waits %s", wait)
	}
	if again := limit.take("a", now.Add(wait)); again != 0 {
		t.Errorf("after waiting as told: %s", again)
	}
	if wait := newRateLimit(-1).take("a", now); wait != 0 {
		t.Errorf("without a limit: %s", wait)
	}
}

func TestRetryAfterIsInWholeSeconds(t *testing.T) {
	server := &Server{logger: program.Quiet()}
	for _, test := range []struct {
		err    error
		status int
		after  string
	}{
		{problem.RateLimited(20 * time.Millisecond), 429, "1"},
		{problem.RateLimited(61 * time.Second), 429, "61"},
		{problem.Unavailable(1500*time.Millisecond, errors.New("disk on fire")), 503, "2"},
		{problem.NotFound("group"), 404, ""},
	} {
		w := httptest.NewRecorder()
		server.refuse(w, httptest.NewRequest(http.MethodGet, "/api/groups", nil), test.err)
		if w.Code != test.status || w.Header().Get("Retry-After") != test.after {
			t.Errorf("%v: %d, Retry-After %q", test.err, w.Code, w.Header().Get("Retry-After"))
		}
	}
}

func TestInternalErrorsShowTheRequestIDOnly(t *testing.T) {
	server := &Server{logger: program.Quiet()}
	w := httptest.NewRecorder()
	r := withExchange(httptest.NewRequest(http.MethodGet, "/api/groups", nil), &exchange{requestID: "id-1"})
	func() {
		defer server.recoverPanic(w, r)
		panic("secret of the server")
	}()
	if body := w.Body.String(); w.Code != 500 || containsAny(body, "secret", "goroutine") || !containsAny(body, "id-1") {
		t.Errorf("%d %s", w.Code, body)
	}
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
