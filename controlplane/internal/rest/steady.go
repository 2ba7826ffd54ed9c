package rest

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/generated/api"
)

// Constants we chose.
const (
	// keptBytes bounds the lists that are kept, of all callers together.
	keptBytes = 64 << 20

	// keptListBytes is what a kept list costs besides its text and its key.
	keptListBytes = 512
)

// steadyLists are the operations whose answer changes with writes only: lists of
// what takes If-None-Match when it is read alone.
func steadyLists() map[string]bool {
	steady := map[string]bool{}
	for _, list := range api.Operations {
		for _, item := range api.Operations {
			below, found := strings.CutPrefix(item.Path, list.Path+"/{")
			if found && strings.HasSuffix(below, "}") && !strings.Contains(below, "/") && item.Conditional && list.Method == http.MethodGet && item.Method == http.MethodGet {
				steady[list.ID] = true
			}
		}
	}
	return steady
}

// keptLists holds encoded lists until the account changes. A list of a thousand
// objects takes longer to encode than to send, and dashboards, planners and
// scripts ask for the same one again and again.
type keptLists struct {
	steady map[string]bool

	mu    sync.Mutex // guards lists and size
	lists map[string]*keptList
	size  int
}

// A keptList is one list as one caller sees it.
type keptList struct {
	mu       sync.Mutex // guards the fields below; held while the list is made, so that callers who ask at once share it
	revision uint64
	made     bool
	answer   encodedAnswer
}

func newKeptLists() *keptLists {
	return &keptLists{steady: steadyLists(), lists: map[string]*keptList{}}
}

// answer returns the list as of the revision or later; fill makes it when it is
// not there. Who may see what depends on the caller, who is part of the key.
func (k *keptLists) answer(p auth.Principal, r *http.Request, operationID string, revision uint64, fill func() (encodedAnswer, error)) (encodedAnswer, error) {
	list := k.list(strings.Join([]string{p.AccountID, p.ID, p.Role, operationID, r.URL.Path, r.URL.RawQuery}, "\x00"))
	list.mu.Lock()
	defer list.mu.Unlock()
	if list.made && list.revision >= revision {
		return list.answer, nil
	}
	had := len(list.answer.body)
	answer, err := fill()
	if err != nil {
		return answer, err
	}
	list.revision, list.made, list.answer = revision, true, answer
	k.grow(len(answer.body) - had)
	return answer, nil
}

func (k *keptLists) list(key string) *keptList {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.lists[key]
	if list == nil {
		list = &keptList{}
		k.growLocked(len(key) + keptListBytes)
		k.lists[key] = list
	}
	return list
}

// grow counts what is kept and forgets all of it when that is too much.
func (k *keptLists) grow(by int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.growLocked(by)
}

func (k *keptLists) growLocked(by int) {
	if k.size = max(0, k.size+by); k.size > keptBytes {
		clear(k.lists)
		k.size = 0
	}
}

// steadyAnswer answers an operation whose answer changes with writes only.
func (s *Server) steadyAnswer(ctx context.Context, r *http.Request, operationID string, fill func() (encodedAnswer, error)) (encodedAnswer, error) {
	p := caller(ctx)
	revision, err := s.state.Revision(p) // before the list is read, so that nothing is missed
	if err != nil {
		return encodedAnswer{}, err
	}
	return s.kept.answer(p, r, operationID, revision, fill)
}
