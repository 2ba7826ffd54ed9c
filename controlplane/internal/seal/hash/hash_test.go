package hash

import (
	"strings"
	"testing"
)

func TestPassword(t *testing.T) {
	phc, err := Password(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(phc, err)
	}
	for password, want := range map[string]bool{"correct horse": true, "wrong horse": false, "": false} {
		if ok, err := Verify(t.Context(), phc, password); ok != want || err != nil {
			t.Fatal(password, ok, err)
		}
	}
	if ok, err := Verify(t.Context(), "", ""); ok || err != nil {
		t.Fatal("an empty hash verifies")
	}
}

func TestBounds(t *testing.T) {
	rest := "$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)
	for parameters, want := range map[string]bool{
		"m=19456,t=2,p=1": true, "m=262144,t=10,p=8": true, "m=262145,t=1,p=1": false, "m=19456,t=0,p=1": false, "m=19456,t=11,p=1": false,
		"m=19456,t=2,p=0": false, "m=19456,t=2,p=9": false, "m=8,t=1,p=2": false, "m=4294967304,t=1,p=1": false, "m=019456,t=2,p=1": false, "t=2,m=8,p=1": false,
	} {
		if _, _, _, err := decode("$argon2id$v=19$" + parameters + rest); (err == nil) != want {
			t.Errorf("%s: %v", parameters, err)
		}
	}
	for _, text := range []string{"", "$", "$argon2i$v=19$m=19456,t=2,p=1" + rest, "$argon2id$v=16$m=19456,t=2,p=1" + rest, "$argon2id$v=19$m=19456,t=2,p=1$AA$" + strings.Repeat("A", 43)} {
		if _, _, _, err := decode(text); err == nil {
			t.Errorf("%q is a hash", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if c, _, _, err := decode(text); err == nil && (c.memory > maxMemoryKiB || c.passes == 0 || c.passes > maxPasses || c.lanes == 0 || c.lanes > maxLanes) {
			t.Fatal("out of bounds", c)
		}
	})
}
