package connectivity

import (
	"slices"
	"testing"
	"time"
)

func TestWorthLeaving(t *testing.T) {
	for _, c := range []struct {
		present, next time.Duration
		want          bool
	}{
		{100 * time.Millisecond, 80 * time.Millisecond, true},
		{100 * time.Millisecond, 81 * time.Millisecond, false},
		{20 * time.Millisecond, 15 * time.Millisecond, true},
		{20 * time.Millisecond, 16 * time.Millisecond, false}, // a fifth, but noise
		{4 * time.Millisecond, time.Millisecond, false},
		{80 * time.Millisecond, 100 * time.Millisecond, false},
	} {
		if got := worthLeaving(c.present, c.next); got != c.want {
			t.Errorf("from %s to %s: %t, want %t", c.present, c.next, got, c.want)
		}
	}
}

func TestRanked(t *testing.T) {
	urls := []relayURL{
		{host: "far:1"}, {host: "silent:1"}, {host: "near:1"}, {host: "far:1", transport: overTCP}, {host: "near:1", transport: overTCP},
	}
	rtts := map[string]distance{"far:1": {rtt: 80 * time.Millisecond}, "near:1": {rtt: 8 * time.Millisecond}}
	var got []string
	for _, u := range ranked(urls, rtts) {
		got = append(got, u.transport.String()+" "+u.host)
	}
	want := []string{"udp near:1", "udp far:1", "udp silent:1", "tcp near:1", "tcp far:1"}
	if !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	if got := ranked(urls, nil); !slices.EqualFunc(got, urls, relayURL.same) {
		t.Errorf("without a measurement the order is %v", got)
	}
}
