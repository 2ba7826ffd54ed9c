package control

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, test := range []struct {
		text     string
		insecure bool
		want     string // empty: refused
		hint     string // in the error
	}{
		{"https://mesh.example:8443", false, "https://mesh.example:8443", ""},
		{"https://Mesh.Example/", false, "https://mesh.example", ""},
		{"http://127.0.0.1:8080", false, "http://127.0.0.1:8080", ""},
		{"http://[::1]:8080", false, "http://[::1]:8080", ""},
		{"http://localhost:8080", false, "http://localhost:8080", ""},
		{"http://mesh.example", true, "http://mesh.example", ""},
		{"http://mesh.example", false, "", "--insecure-http"},
		{"http://127.0.0.1.example", false, "", "--insecure-http"},
		{"mesh.example:8443", false, "", "https://host:port"},
		{"ftp://mesh.example", true, "", "https://host:port"},
		{"https://:8443", false, "", "https://host:port"},
		{"https://mesh.example/wattle", false, "", "write it as https://mesh.example"},
		{"https://mesh.example/?a=b", false, "", "write it as https://mesh.example"},
		{"https://mesh.example/#a", false, "", "write it as https://mesh.example"},
		{"https://me:secret@mesh.example", false, "", "write it as https://mesh.example"},
		{"https://me:secret@mesh.example:port", false, "", "https://host:port"},
	} {
		got, err := ParseAddress(test.text, test.insecure)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v", test.text, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), test.hint) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q and no password in it", test.text, err, test.hint)
		}
	}
}

func TestParsePin(t *testing.T) {
	digits := strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		"sha256:" + digits:                   "sha256:" + digits,
		" SHA256:" + strings.ToUpper(digits): "sha256:" + digits,
		digits:                               "",
		"sha256:" + digits[2:]:               "",
		"sha256:" + strings.Repeat("g", 64):  "",
		"sha1:" + digits:                     "",
		"sha256:" + digits + digits:          "",
	} {
		if got, err := ParsePin(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
