package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// rows is a store of keys in memory.
type rows struct {
	canary store.Canary
	keys   []store.DataKey
}

func (r *rows) SealedKeys(context.Context) (store.Canary, []store.DataKey, error) {
	return r.canary, r.keys, nil
}

func (r *rows) InitSealedKeys(_ context.Context, canary store.Canary, key store.DataKey) error {
	r.canary, r.keys = canary, []store.DataKey{key}
	return nil
}

func ring(t *testing.T) *Keyring {
	t.Helper()
	r, err := Open(t.Context(), filepath.Join(t.TempDir(), "master.key"), &rows{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealedValueIsBoundToItsPlace(t *testing.T) {
	r := ring(t)
	here := Place{"secret", "sealed", "relay"}
	sealed := r.Seal(here, []byte("value"))
	if got, err := r.Open(here, sealed); err != nil || string(got) != "value" {
		t.Fatal(got, err)
	}
	for _, there := range []Place{{"secret", "sealed", "other"}, {"secret", "other", "relay"}, {"secrets", "ealed", "relay"}, {}} {
		if _, err := r.Open(there, sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("opens at %+v", there)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			broken := bytes.Clone(sealed)
			broken[i] ^= 1 << bit
			if _, err := r.Open(here, broken); !errors.Is(err, ErrOpen) {
				t.Fatalf("opens with bit %d of byte %d flipped", bit, i)
			}
		}
		if _, err := r.Open(here, sealed[:i]); !errors.Is(err, ErrOpen) {
			t.Fatalf("opens cut to %d bytes", i)
		}
	}
	if _, err := ring(t).Open(here, sealed); !errors.Is(err, ErrOpen) {
		t.Fatal("opens with another ring")
	}
	if bytes.Equal(sealed, r.Seal(here, []byte("value"))) {
		t.Fatal("two seals are equal: the nonce repeats")
	}
}

func TestMasterKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	db := &rows{}
	first, err := Open(t.Context(), path, db)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	at := Place{"t", "c", "r"}
	sealed := first.Seal(at, []byte("x"))
	again, err := Open(t.Context(), path, db)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(at, sealed); err != nil || string(got) != "x" {
		t.Fatal(err)
	}
	expected := db.canary.MasterKeyID

	wrong := filepath.Join(t.TempDir(), "wrong.key")
	if err := NewMasterKey().create(wrong); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), wrong, db); err == nil || !strings.Contains(err.Error(), expected) {
		t.Fatal(err)
	}
	gone := filepath.Join(t.TempDir(), "gone.key")
	if _, err := Open(t.Context(), gone, db); err == nil || !strings.Contains(err.Error(), expected) {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a new key was made although sealed rows exist")
	}
	if err := os.WriteFile(gone, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), gone, db); err == nil || !strings.Contains(err.Error(), "holds no master key") {
		t.Fatal(err)
	}
	if key, _ := ReadMasterKey(path); strings.Contains(fmt.Sprintf("%v %+v %#v %s", key, key, key, key), string(key.key)) {
		t.Fatal("the key prints")
	}
}

func FuzzOpen(f *testing.F) {
	r, err := newRing("0011223344556677", map[string][]byte{"0011223344556677": make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	at := Place{"t", "c", "r"}
	f.Add(r.Seal(at, []byte("x")))
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if value, err := r.Open(at, sealed); err == nil {
			if again, err := r.Open(at, sealed); err != nil || !bytes.Equal(value, again) {
				t.Fatal("opens differently")
			}
		}
	})
}
