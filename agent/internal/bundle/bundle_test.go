package bundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	public  = "dGhpcyBpcyBhIHB1YmxpYyBrZXksIG5vIHNlY3JldCE="
	private = "dGhpcyBpcyBhIHByaXZhdGUga2V5LCBhIHNlY3JldCE="
)

func redactor(mode Mode) *Redactor {
	return NewRedactor(mode, Known{
		PublicKeys: []string{public}, Names: []string{"web-1", "web-1.mesh.example", "mesh.example", "", "peer9"},
		Overlay: func(addr netip.Addr) bool { return netip.MustParsePrefix("100.64.0.0/10").Contains(addr) },
	})
}

func TestWhatEachModeTakesOut(t *testing.T) {
	for _, test := range []struct{ text, none, otherwise, strict string }{
		{"time=17:02:03 rtt=1.5ms", "", "", ""},
		{"999.1.1.1 and 1:2:3", "", "", ""},
		{"from 198.51.100.7:51820 to 198.51.100.7", "", "from (address-1):51820 to (address-1)", "from (address-1):51820 to (address-1)"},
		{"[2001:db8::7]:51820", "", "[(address-1)]:51820", "[(address-1)]:51820"},
		{"192.168.1.5, 100.64.0.9, fe80::1%eth0", "", "", "(address-1), (address-2), (address-3)%eth0"},
		{"127.0.0.1 ::1 0.0.0.0", "", "", ""},
		{`"public_key": "` + public + `"`, "", "", `"public_key": "(key-1)"`},
		{"WEB-1.mesh.example pings web-1, not web-10", "", "", "(name-1) pings (name-2), not web-10"},
		{"id=peer9", "", "", "id=(name-1)"},
	} {
		for mode, want := range map[Mode]string{ModeNone: test.none, ModeDefault: test.otherwise, ModeStrict: test.strict, "nonsense": test.strict} {
			if want == "" {
				want = test.text
			}
			if got := redactor(mode).Text(test.text); got != want {
				t.Errorf("%s: %q becomes %q, want %q", mode, test.text, got, want)
			}
		}
	}
}

func TestSecretsNeverPass(t *testing.T) {
	const secret = "s3cr3tValue"
	for _, text := range []string{
		"private " + private, "wtk_" + secret, "Authorization: Bearer " + secret, "authorization=token " + secret, "wtp_" + secret + "x",
		`{"setup_key":"` + secret + `"}`, `{"password": "` + secret + `"}`, "password=" + secret, "url=turn://user:" + secret + "@relay", "preshared-key: " + secret,
		"eyJhbGciOiJFZERTQSJ9." + secret + ".c2ln", "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----",
		"https://mesh.example/?token=" + secret + "&x=1", `"machine_key":"` + secret + `"`, `msg="x" credential=` + secret,
	} {
		for _, mode := range []Mode{ModeNone, ModeDefault, ModeStrict} {
			if got := redactor(mode).Text(text); strings.Contains(got, secret) || strings.Contains(got, private) {
				t.Errorf("%s: %q becomes %q", mode, text, got)
			}
		}
	}
}

func TestTailKeepsTheNewestLines(t *testing.T) {
	var tail Tail
	const lines = 60000
	for n := range lines {
		_, _ = fmt.Fprintf(&tail, "line %d of a log that is longer than what is kept\n", n)
	}
	text := tail.String()
	if len(text) > tailSize || len(text) < tailSize/2 || !strings.HasPrefix(text, "line ") || !strings.HasSuffix(text, fmt.Sprintf("line %d of a log that is longer than what is kept\n", lines-1)) {
		t.Errorf("%d bytes, from %.20q", len(text), text)
	}
}

func TestArchive(t *testing.T) {
	files := []File{{Name: "a.txt", What: "first", Text: "alpha"}, {Name: "b.json", What: "second", Text: "{}"}}
	var packed strings.Builder
	if err := Write(&packed, "folder", time.Unix(0, 0), files); err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(strings.NewReader(packed.String()))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = string(text)
	}
	if diff := cmp.Diff(map[string]string{"folder/a.txt": "alpha", "folder/b.json": "{}"}, got); diff != "" {
		t.Error(diff)
	}
	if contents := Contents(ModeStrict, files); !strings.Contains(contents, "strict") || !strings.Contains(contents, "5  a.txt               first") {
		t.Error(contents)
	}
}
