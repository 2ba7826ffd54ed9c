package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	s := New(Access)
	text := s.Reveal()
	if len(text) != 40 || !strings.HasPrefix(text, "wtp_") {
		t.Fatal(text)
	}
	parsed, err := Parse(Access, text)
	if err != nil || parsed.Sum() != s.Sum() {
		t.Fatal(err)
	}
	if _, err := Parse(SetupKey, text); !errors.Is(err, ErrForm) {
		t.Fatal("kinds are interchangeable")
	}
	for i := 4; i < len(text); i++ {
		other := byte('a')
		if text[i] == other {
			other = 'b'
		}
		if _, err := Parse(Access, text[:i]+string(other)+text[i+1:]); !errors.Is(err, ErrForm) {
			t.Fatalf("a typing error at %d passes", i)
		}
	}
	for _, printed := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%q", s)} {
		if strings.Contains(printed, text[4:]) || !strings.Contains(printed, "wtp_***") {
			t.Fatal("the secret prints as", printed)
		}
	}
	if _, err := json.Marshal(s); err == nil {
		t.Fatal("the secret is written as JSON")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New(Access).Reveal())
	f.Add("wtp_")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse(Access, text); err == nil && s.Reveal() != text {
			t.Fatal("parsed another text")
		}
	})
}
