package template

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	stdtemplate "text/template"
)

// document has what the documents of the commands have: every kind of value, absent and empty ones.
const document = `{"schema": "wattle.test/v1", "on": true, "off": false, "none": null, "empty": "", "count": 7, "zero": 0,
"ratio": 0.25, "large": 18446744073709551615, "nobody": [], "nothing": {},
"peers": [{"name": "alice", "ip": "100.64.0.1", "tags": ["a", "b"]}, {"name": "bob", "ip": "100.64.0.2", "tags": null}],
"ports": {"http": 80, "ssh": 22}}`

// shared are templates that text/template understands as we do.
var shared = []string{
	``, `text`, `{{.schema}}`, `{{ .count -}}  x`, `{{/* a comment */}}y`, `{{.none}}`, `{{.on}} {{.ratio}} {{.large}}`,
	`{{range .peers}}{{.name}}={{.ip}} {{end}}`, `{{range $i, $p := .peers}}{{$i}}{{$p.name}}{{$.count}}{{end}}`,
	`{{range $p := .peers}}{{range $p.tags}}{{.}}{{else}}-{{end}}{{end}}`, `{{range .nobody}}x{{else}}nobody{{end}}`,
	`{{range $k, $v := .ports}}{{$k}}:{{$v}} {{end}}`, `{{range .none}}x{{else}}none{{end}}`, `{{range .nothing}}x{{end}}`,
	`{{range .peers}}{{if eq .name "bob"}}{{break}}{{end}}{{.name}}{{end}}`,
	`{{range .peers}}{{if eq .name "alice"}}{{continue}}{{end}}{{.name}}{{end}}`,
	`{{if .on}}yes{{else}}no{{end}}{{if .off}}yes{{else if .empty}}empty{{else}}no{{end}}`,
	`{{if .none}}x{{else}}y{{end}}{{if .nobody}}x{{else}}y{{end}}{{if .nothing}}x{{else}}y{{end}}{{if .count}}x{{end}}`,
	`{{with index .peers 1}}{{.name}}{{end}}{{with .empty}}x{{else}}y{{end}}{{with $x := .schema}}{{$x}}{{end}}`,
	`{{with .empty}}x{{else with .schema}}{{.}}{{end}}`,
	`{{$x := 1}}{{if .on}}{{$x = 2}}{{$y := 3}}{{$y}}{{end}}{{$x}}`, `{{$x := "a"}}{{range .peers}}{{$x = .name}}{{end}}{{$x}}`,
	`{{$x := 1}}{{range .peers}}{{$x := .name}}{{$x}}{{end}}{{$x}}`, `{{$p := index .peers 0}}{{$p.name}}`,
	`{{(index .peers 0).name}}`, `{{(index .peers 0).tags | len}}`, `{{index .peers 0 "tags" 1}}`, `{{index .ports "ssh"}}`,
	`{{index .ports "none"}}`, `{{len .peers}} {{len .schema}} {{len .ports}}`, `{{slice .schema 7 11}}{{slice .schema 12}}`,
	`{{range slice .peers 1}}{{.name}}{{end}}`, `{{slice (slice .peers 0 1) 1}}`,
	`{{and .on .schema}} {{and .off .nonsense}} {{or .empty .schema}} {{or .on .nonsense}} {{or .off .empty}}|{{and .on}}`,
	`{{not .on}} {{not .empty}} {{.on | not}} {{.off | or .empty}} {{.off | and .on}}`,
	`{{eq .schema "a" "wattle.test/v1"}} {{ne .schema "a"}} {{eq .on true}} {{eq .none nil}} {{eq .schema nil}}`,
	`{{lt "a" "b"}} {{le "b" "b"}} {{gt "a" "b"}} {{ge "a" "b"}} {{lt 1 2}} {{ge 1.5 1.5}} {{eq 1 1}} {{ne 2 1}} {{eq 'a' 97}}`,
	`{{print .schema .on 1}} {{println "x"}}{{printf "%s-%v-%5.2f-%d" .schema .on 1.5 3}} {{"a" | printf "%q"}}`,
	`{{.schema | urlquery}} {{json .peers}} {{.ports | json}} {{json .none}} {{print nil}}`, `{{1}} {{1.5}} {{"a"}} {{true}}`,
	`{{print}}|{{println}}`, `{{len (print 1 2)}}`, `{{.peers}} {{.ports}}`, `{{eq .name "x" | not}}`,
	`{{`, `{{.nonsense}}`, `{{.schema.x}}`, `{{nonsense}}`, `{{range .schema}}{{end}}`, `{{index .peers 2}}`, `{{index .peers -1}}`,
	`{{index .peers "x"}}`, `{{index .ports 1}}`, `{{index .schema 0 1}}`, `{{slice .schema 5 2}}`, `{{slice .schema 99}}`,
	`{{slice .ports 1}}`, `{{lt .schema 1}}`, `{{lt .peers .peers}}`, `{{eq .peers .peers}}`, `{{len .on}}`, `{{not}}`, `{{and}}`,
	`{{.schema 1}}`, `{{1 | .schema}}`, `{{nil}}`, `{{break}}`, `{{$x}}`, `{{(index .peers 0).nonsense}}`, `{{printf}}`, `{{printf 1}}`,
	`{{eq 1}}`, `{{lt 1}}`, `{{.peers.name}}`, `{{$.nonsense}}`, `{{if .nonsense}}{{end}}`, `{{with .nonsense}}{{end}}`,
	`{{range .nonsense}}{{end}}`, `{{range .peers}}{{.nonsense}}{{end}}`, `{{true 1}}`, `{{len 1 2}}`, `{{slice}}`, `{{slice 1}}`, `{{index}}`,
}

// standard prints the document by text/template.
func standard(text string) (string, error) {
	functions := stdtemplate.FuncMap{"json": func(value any) (string, error) {
		raw, err := json.Marshal(value)
		return string(raw), err
	}}
	parsed, err := stdtemplate.New("format").Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return "", err
	}
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.UseNumber()
	var plain any
	if err := decoder.Decode(&plain); err != nil {
		return "", err
	}
	var out strings.Builder
	err = parsed.Execute(&out, plain)
	return out.String(), err
}

// ours prints the document by this package.
func ours(text string) (string, error) {
	parsed, err := Parse(text, map[string]Function{"double": func(args []any) (any, error) { return fmt.Sprint(args[0], args[0]), nil }})
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = parsed.Print(&out, []byte(document))
	return out.String(), err
}

func TestAgreesWithTextTemplate(t *testing.T) {
	for _, text := range shared {
		want, wantErr := standard(text)
		got, err := ours(text)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %v; text/template: %v", text, err, wantErr)
		} else if err == nil && got != want {
			t.Errorf("%s:\n%q; text/template:\n%q", text, got, want)
		}
	}
}

// Where it differs from text/template on purpose: numbers of the document are numbers, and functions take plain values.
func TestBeyondTextTemplate(t *testing.T) {
	for text, want := range map[string]string{
		`{{if .zero}}x{{else}}zero{{end}}`:                         "zero",
		`{{if gt .count 6}}many{{end}}`:                            "many",
		`{{eq .count 7}} {{eq .count 7.0}} {{lt .ratio .count}}`:   "true true true",
		`{{printf "%03d %.1f %s %v" .count .ratio .large .count}}`: "007 0.2 18446744073709551615 7",
		`{{double "ab"}}{{.schema | len | double}}`:                "abab14 14",
		`{{index .peers .zero | json}}`:                            `{"ip":"100.64.0.1","name":"alice","tags":["a","b"]}`,
	} {
		if got, err := ours(text); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestOneTemplateOnly(t *testing.T) {
	for _, text := range []string{
		`{{define "x"}}{{end}}`, `{{block "x" .}}{{end}}`, `{{template "x"}}`, `{{define "format"}}{{template "format"}}{{end}}`,
		`{{html "x"}}`, `{{js "x"}}`, `{{call .schema}}`, `{{range 5}}{{end}}`,
	} {
		if got, err := ours(text); err == nil {
			t.Errorf("%s: printed %q", text, got)
		}
	}
}

func TestNothingIsPrintedOfWhatDoesNotFit(t *testing.T) {
	if got, err := ours(`text {{.schema}} {{.nonsense}}`); got != "" || err == nil || !strings.Contains(err.Error(), "<.nonsense>") {
		t.Errorf("printed %q, %v", got, err)
	}
}

// FuzzPrint holds that no text stops the program.
func FuzzPrint(f *testing.F) {
	for _, text := range shared {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ours(text)
		if err != nil && got != "" {
			t.Errorf("%q: %v after %q", text, err, got)
		}
	})
}
