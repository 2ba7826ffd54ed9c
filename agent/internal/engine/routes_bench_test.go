package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
)

// BenchmarkOneOfManyRoutes plans a map with a thousand routes after one of them has
// changed.
func BenchmarkOneOfManyRoutes(b *testing.B) {
	r := &routers{paths: &watchedPaths{status: map[string]connectivity.Status{}}, now: time.Now}
	m := newMap(b, 1, 1, 2, 3)
	for i := range 1000 {
		id := fmt.Sprintf("r%d", i)
		m.Routes = m.Routes.With(id, used(id, id, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250), 1))
	}
	d := &desired{}
	metric := 1
	for b.Loop() {
		next := m.Clone()
		metric++
		next.Routes = next.Routes.With("r1", used("r1", "r1", "10.0.1.0/24", metric))
		d = plan(d, next, "wt0")
		d.chooseExit(exitWish{})
		d.lead(r.pick, r.down)
		r.forget(d)
	}
}
