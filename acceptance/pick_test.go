//go:build linux

package acceptance

import "testing"

func TestPick(t *testing.T) {
	const text = `{"items": [{"name": "a", "n": 1}, {"name": "b", "n": 2.5, "in": {"list": ["x", true]}}]}`
	for path, want := range map[string]string{
		"items.0.name":            "a",
		"items.[name=b].n":        "2.5",
		"items.[n=1].name":        "a",
		"items.1.in.list.0":       "x",
		"items.1.in.list.1":       "true",
		"items.1.in.list":         `["x",true]`,
		"items.[name=c]":          "",
		"items.2":                 "",
		"items.-1":                "",
		"nothing":                 "",
		"items.0.name.deeper":     "",
		"items.[name=b].in.other": "",
	} {
		got, err := pick(text, path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := pick("not JSON", "a"); err == nil {
		t.Error("something was found in what is not JSON")
	}
}
