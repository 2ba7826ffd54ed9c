package server

import (
	"bytes"
	"log/slog"
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
		secret, err := ReadSecret(file, slog.New(slog.DiscardHandler))
		switch {
		case want == "" && (err != nil || string(secret) != strings.TrimSpace(text)):
			t.Errorf("%q: %d bytes, error %v", text, len(secret), err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)):
			t.Errorf("%q: error %v, want one that names the file and %q", text, err, want)
		}
	}
	if _, err := ReadSecret(file+"-missing", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing file was read")
	}
}

func TestReadSecretTellsWhoElseReadsIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := ReadSecret(file, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), file); got != warns {
			t.Errorf("mode %s: it logs %q", mode, log.String())
		}
	}
}
