package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
)

func TestKeptListIsMadeOncePerRevision(t *testing.T) {
	k := newKeptLists()
	r := httptest.NewRequest(http.MethodGet, "/api/policies?limit=2", nil)
	made := 0
	ask := func(p auth.Principal, revision uint64) string {
		t.Helper()
		answer, err := k.answer(p, r, "ListPolicies", revision, func() (encodedAnswer, error) {
			made++
			return encodedAnswer{body: fmt.Appendf(nil, "%s at %d", p.ID, revision)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.body)
	}
	ann, bob := auth.Principal{ID: "ann"}, auth.Principal{ID: "bob"}
	for _, step := range []struct {
		p        auth.Principal
		revision uint64
		want     string
		made     int
	}{
		{ann, 0, "ann at 0", 1},
		{ann, 0, "ann at 0", 1},
		{bob, 0, "bob at 0", 2}, // nobody gets the list of another
		{ann, 1, "ann at 1", 3},
		{ann, 0, "ann at 1", 3}, // a newer list is as good for who asked before
		{auth.Principal{ID: "ann", Role: "user"}, 1, "ann at 1", 4},
	} {
		if got := ask(step.p, step.revision); got != step.want || made != step.made {
			t.Errorf("%s at revision %d: %q, made %d times, want %q, %d times", step.p.ID, step.revision, got, made, step.want, step.made)
		}
	}
	refused := errors.New("refused")
	if _, err := k.answer(ann, r, "ListPolicies", 2, func() (encodedAnswer, error) { return encodedAnswer{}, refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if got := ask(ann, 2); got != "ann at 2" {
		t.Errorf("after a refusal: %q", got)
	}
}

func TestKeptListsAreBounded(t *testing.T) {
	k := newKeptLists()
	body := make([]byte, keptBytes/8)
	for i := range 100 {
		r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/api/policies?limit=%d", i), nil)
		if _, err := k.answer(auth.Principal{}, r, "ListPolicies", 0, func() (encodedAnswer, error) { return encodedAnswer{body: body}, nil }); err != nil {
			t.Fatal(err)
		}
		if len(k.lists) > 8 || k.size > keptBytes {
			t.Fatalf("%d lists, %d bytes", len(k.lists), k.size)
		}
	}
}

func TestSteadyListsAreThoseOfTheContract(t *testing.T) {
	steady := steadyLists()
	for operation, want := range map[string]bool{"ListGroups": true, "ListPolicies": true, "ListPeers": false, "ListUsers": false, "ListSetupKeys": false, "ListAuditEvents": false} {
		if steady[operation] != want {
			t.Errorf("%s is steady: %v", operation, steady[operation])
		}
	}
}
