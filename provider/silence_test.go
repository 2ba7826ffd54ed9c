package main

import (
	"os"
	"testing"
)

func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name    string
		environ []string
		want    string
	}{
		{"nobody asked", []string{"HOME=/root"}, "OFF"},
		{"terraform's log asked for", []string{"TF_LOG=DEBUG"}, ""},
		{"the provider's log asked for", []string{"TF_LOG_PROVIDER_WATTLE=TRACE"}, ""},
		{"the framework's log asked for", []string{"TF_LOG_SDK_PROTO=TRACE"}, ""},
		{"set to nothing", []string{"TF_LOG="}, "OFF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range logVariables[2:] {
				t.Setenv(name, "")
			}
			silence(c.environ)
			if got := os.Getenv("TF_LOG_SDK"); got != c.want {
				t.Errorf("TF_LOG_SDK %q, want %q", got, c.want)
			}
		})
	}
}
