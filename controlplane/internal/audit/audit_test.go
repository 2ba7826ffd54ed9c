package audit

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/store"
)

func chain() []store.AuditEntry {
	var list []store.AuditEntry
	var hash []byte
	for n := range int64(4) {
		e := store.AuditEntry{AccountID: "a", N: n + 1, Activity: "group.create", TargetID: "t", Before: "", After: "{}"}
		e.Hash = Chain(hash, e)
		hash = e.Hash
		list = append(list, e)
	}
	return list
}

func verify(list []store.AuditEntry) error {
	var v Verifier
	for _, e := range list {
		if err := v.Next(e); err != nil {
			return err
		}
	}
	return nil
}

func TestChain(t *testing.T) {
	if err := verify(chain()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(list []store.AuditEntry) []store.AuditEntry{
		"a changed field":     func(l []store.AuditEntry) []store.AuditEntry { l[1].After = "{} "; return l },
		"a moved boundary":    func(l []store.AuditEntry) []store.AuditEntry { l[1].Before, l[1].After = "{}", ""; return l },
		"a missing event":     func(l []store.AuditEntry) []store.AuditEntry { return append(l[:1], l[2:]...) },
		"a missing beginning": func(l []store.AuditEntry) []store.AuditEntry { return l[1:] },
		"swapped events":      func(l []store.AuditEntry) []store.AuditEntry { l[1], l[2] = l[2], l[1]; return l },
		"a hash made anew": func(l []store.AuditEntry) []store.AuditEntry {
			l[1].TargetID = "x"
			l[1].Hash = Chain(l[0].Hash, l[1])
			return l
		},
	} {
		if verify(change(chain())) == nil {
			t.Errorf("%s is not seen", name)
		}
	}
}
