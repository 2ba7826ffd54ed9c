package label

import (
	"regexp"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for name, want := range map[string]string{
		"web-1":                  "web-1",
		" Web_1.example.org ":    "web-1",
		"ada's laptop":           "ada-s-laptop",
		"--a--":                  "a",
		"Müller":                 "m-ller",
		"日本":                     "peer",
		"":                       "peer",
		strings.Repeat("x", 70):  strings.Repeat("x", 63),
		strings.Repeat("x-", 40): strings.TrimSuffix(strings.Repeat("x-", 32)[:63], "-"),
	} {
		if got := Of(name); got != want {
			t.Errorf("Of(%q) is %q, want %q", name, got, want)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, seed := range []string{"web-1", "", "-", "a.b", "ÄÖÜ", strings.Repeat("-a", 50)} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, name string) {
		label := Of(name)
		if !form.MatchString(label) {
			t.Errorf("Of(%q) is %q, which is no label", name, label)
		}
		if again := Of(label); again != label {
			t.Errorf("Of(%q) is %q, and of that %q", name, label, again)
		}
	})
}
