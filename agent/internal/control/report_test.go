package control

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// desk is what a reporter works with, in memory.
type desk struct {
	asked, probed, programs chan struct{}
	report                  api.StatusReport // of now
	connected               bool
	fail                    error
	sent                    []api.StatusReport
	looks                   int
}

// report runs a reporter within a bubble of time that test moves on.
func report(t *testing.T, test func(*desk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{asked: make(chan struct{}, 1), probed: make(chan struct{}, 1), programs: make(chan struct{}, 1), connected: true}
		r := reporter{
			asked: d.asked, probed: d.probed, programs: d.programs,
			look: func() (api.StatusReport, bool) { d.looks++; return d.report, d.connected },
			send: func(_ context.Context, report api.StatusReport, _ time.Duration) error {
				d.sent = append(d.sent, report)
				return d.fail
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		ring(d.asked)
		synctest.Wait()
		if len(d.sent) != 1 {
			t.Errorf("%d reports when asked, want 1", len(d.sent))
		}
		d.sent = nil
		test(d)
		cancel()
		<-done
	})
}

// after returns how many reports come within a time.
func (d *desk) after(span time.Duration) int {
	before := len(d.sent)
	time.Sleep(span)
	synctest.Wait()
	return len(d.sent) - before
}

// runs says which programs run now.
func (d *desk) runs(programs ...string) { d.report.Facts.RunningProcesses = &programs }

func TestReportsFollowPrograms(t *testing.T) {
	report(t, func(d *desk) {
		d.runs()
		ring(d.programs)
		if n := d.after(programInterval); n != 1 {
			t.Errorf("%d reports after programs were asked for, want 1", n)
		}
		if n := d.after(time.Hour); n != 0 {
			t.Errorf("%d reports while nothing changed, want none", n)
		}
		d.runs("/bin/a")
		if n := d.after(programInterval); n != 1 {
			t.Errorf("%d reports after a start, want 1", n)
		}
		d.runs()
		if n := d.after(programInterval); n != 1 {
			t.Errorf("%d reports after an end, want 1", n)
		}
		d.report.Facts.RunningProcesses = nil // nothing is asked any more
		d.after(programInterval)
		d.looks = 0
		d.after(10 * factsInterval)
		if d.looks != 10 {
			t.Errorf("looked %d times in 10 intervals", d.looks)
		}
	})
}

func TestReportsFollowAddresses(t *testing.T) {
	report(t, func(d *desk) {
		d.report.Facts.NetworkAddresses = &[]string{"192.0.2.1/24"}
		ring(d.probed)
		if n := d.after(0); n != 1 {
			t.Errorf("%d reports after a change of the network, want 1", n)
		}
		d.report.Facts.NetworkAddresses = &[]string{"192.0.2.2/24"}
		if n := d.after(factsInterval); n != 1 {
			t.Errorf("%d reports after a change that nobody told of, want 1", n)
		}
	})
}

// A program that starts and ends all the time makes few reports.
func TestReportsAreFew(t *testing.T) {
	report(t, func(d *desk) {
		d.runs()
		ring(d.programs)
		for i := range 300 {
			d.runs([]string{"/bin/a"}[i%2:]...)
			d.after(programInterval)
		}
		if most := changeBurst + int(300*programInterval/changePause) + 1; len(d.sent) > most || len(d.sent) < most/2 {
			t.Errorf("%d reports of 300 changes, want about %d", len(d.sent), most)
		}
		d.runs("/bin/b")
		d.after(2 * changePause)
		if last := d.sent[len(d.sent)-1].Facts.RunningProcesses; !slices.Equal(*last, []string{"/bin/b"}) {
			t.Errorf("the last report says that %v run", *last)
		}
	})
}

func TestReportsWaitForTheControlPlane(t *testing.T) {
	report(t, func(d *desk) {
		d.runs()
		d.connected = false
		ring(d.programs)
		if n := d.after(time.Hour); n != 0 {
			t.Errorf("%d reports without a stream, want none", n)
		}
		d.connected, d.fail = true, errors.New("injected")
		if n := d.after(programInterval); n != 1 {
			t.Errorf("%d reports with a stream, want 1", n)
		}
		d.fail = nil
		if n := d.after(programInterval); n != 1 {
			t.Errorf("%d reports after one was lost, want 1", n)
		}
	})
}

// What is in force is told from time to time, as far as it has changed.
func TestReportsOfTheMap(t *testing.T) {
	report(t, func(d *desk) {
		for serial := range int64(10) {
			d.report.Applied = &api.MapPosition{Epoch: "1-a", Serial: serial}
			d.after(reportInterval / 10)
		}
		if d.after(reportInterval); len(d.sent) != 1 || d.sent[0].Applied.Serial != 9 {
			t.Errorf("reports of 10 changes within an interval: %v, want one of the last", d.sent)
		}
		if n := d.after(10 * reportInterval); n != 0 {
			t.Errorf("%d reports while nothing changed, want none", n)
		}
	})
}

// The map says about which programs the machine is asked.
func TestMapAsksForPrograms(t *testing.T) {
	var asked []string
	s := &Session{
		asks: make(chan struct{}, 1),
		config: SessionConfig{
			OnMap: func(*mapstate.Map) {},
			Facts: func(programs []string) (api.MachineFacts, error) { asked = programs; return api.MachineFacts{}, nil },
		},
	}
	for _, test := range []struct {
		programs []string
		rings    int
	}{
		{nil, 0}, {[]string{"/bin/a"}, 1}, {[]string{"/bin/a"}, 0}, {[]string{"/bin/a", "/bin/b"}, 1}, {nil, 1},
	} {
		m := &mapstate.Map{Self: self}
		m.Self.Processes = test.programs
		s.take(m)
		if len(s.asks) != test.rings {
			t.Errorf("%v: rings %d times, want %d", test.programs, len(s.asks), test.rings)
		}
		for len(s.asks) > 0 {
			<-s.asks
		}
		if s.look(); !slices.Equal(asked, test.programs) {
			t.Errorf("asked about %v, want %v", asked, test.programs)
		}
	}
}
