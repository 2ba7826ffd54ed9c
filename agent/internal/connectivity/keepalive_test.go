package connectivity

import (
	"log/slog"
	"testing"
	"time"
)

func TestLearnKeepalive(t *testing.T) {
	p := &Pathfinder{log: slog.New(slog.DiscardHandler)}
	pr := &pair{}
	for _, step := range []struct {
		name  string
		pause time.Duration
		want  time.Duration
	}{
		{"a path in use shows nothing about mappings", time.Second, 0},
		{"half of the pause that was too long", 16 * time.Second, 8 * time.Second},
		{"a longer pause later does not undo that", 30 * time.Second, 8 * time.Second},
		{"still too long", 9 * time.Second, 4500 * time.Millisecond},
		{"no less than a bound", 5 * time.Second, leastKeepalive},
	} {
		pr.pause = step.pause
		p.learnKeepalive(pr)
		if pr.keepalive != step.want {
			t.Errorf("%s: keepalive %v, want %v", step.name, pr.keepalive, step.want)
		}
	}
}
