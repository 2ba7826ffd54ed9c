package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for text, want := range map[string]string{
		"0123456789abcdef\n": "",
		"0123456789abcde \n": "15 bytes",
		"":                   "0 bytes",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := ReadSecret(file)
		switch {
		case want == "" && (err != nil || string(secret) != strings.TrimSpace(text)):
			t.Errorf("%q: %d bytes, error %v", text, len(secret), err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)):
			t.Errorf("%q: error %v, want one that names the file and %q", text, err, want)
		}
	}
	if _, err := ReadSecret(file + "-missing"); err == nil {
		t.Error("a missing file was read")
	}
}
