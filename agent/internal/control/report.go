package control

import (
	"context"
	"reflect"
	"time"

	"golang.org/x/time/rate"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// Choices of ours.
const (
	reportTimeout = 30 * time.Second

	// probeTimeout is how long a connection may take to carry a request after
	// the network has changed.
	probeTimeout = 5 * time.Second

	// reportInterval is the longest time after which the control plane hears
	// which map is in force.
	reportInterval = 5 * time.Minute

	// programInterval is how often the machine is looked at while the control
	// plane asks about programs: access follows them. Else nothing hurries.
	programInterval = 2 * time.Second
	factsInterval   = 30 * time.Second

	// changeBurst reports of changed facts may follow each other, then one each
	// changePause: a program that comes and goes moves maps of other machines.
	changeBurst = 6
	changePause = 10 * time.Second
)

// A reporter tells the control plane of this machine.
//
//	asked, network changed ----------------------> look ---------> send
//	time, other programs asked for (a little on) -> look, differs -> send
type reporter struct {
	asked    <-chan struct{}
	probed   <-chan struct{} // the network has changed
	programs <-chan struct{} // other programs are asked for

	// look returns a report of now, and whether the control plane listens.
	look func() (report api.StatusReport, connected bool)

	send func(ctx context.Context, report api.StatusReport, timeout time.Duration) error
}

// run reports until ctx ends.
func (r reporter) run(ctx context.Context) {
	timer := time.NewTimer(factsInterval)
	defer timer.Stop()
	changes := rate.NewLimiter(rate.Every(changePause), changeBurst)
	var told api.StatusReport // the last that arrived
	var at time.Time
	for {
		asked, timeout := false, reportTimeout
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
			asked = true
		case <-r.probed:
			asked, timeout = true, probeTimeout
		case <-r.programs:
			// All machines of a network may be asked at one moment.
			timer.Reset(jitter(programInterval))
			continue
		case <-timer.C:
		}
		report, connected := r.look()
		if report.Facts.RunningProcesses != nil {
			timer.Reset(programInterval)
		} else {
			timer.Reset(factsInterval)
		}
		moved := report.Applied != nil && differ(report.Applied, told.Applied) && time.Since(at) >= reportInterval
		due := asked || connected && (moved || differ(report.Facts, told.Facts) && changes.Allow())
		if due && r.send(ctx, report, timeout) == nil {
			told, at = report, time.Now()
		}
	}
}

func differ[T any](a, b T) bool { return !reflect.DeepEqual(a, b) }

// ring asks for something that is done once, however often it is asked for.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// look returns a report of now, and whether a stream is open.
func (s *Session) look() (report api.StatusReport, connected bool) {
	s.mu.Lock()
	programs, mismatch := s.programs, s.mismatch
	report.Applied, connected = s.applied, s.connected
	s.mu.Unlock()
	if mismatch {
		report.DigestMismatch = &mismatch
	}
	var err error
	if report.Facts, err = s.config.Facts(programs); err != nil && err.Error() != s.unseen {
		s.log.Warn("not all facts of this machine are seen", "error", err)
		s.unseen = err.Error()
	}
	return report, connected
}

// giveUp ends a stream whose connection carries nothing. An answer, whatever it
// says, shows that it does.
func (s *Session) giveUp(err error) {
	if _, answered := sdk.AsProblem(err); answered {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		s.cut(errSilent)
	}
}

// post sends a report. One that probes the connection gives it up when it fails.
func (s *Session) post(ctx context.Context, report api.StatusReport, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := s.config.Client.report(limited, report)
	if err != nil {
		s.log.Debug("status not reported", "error", err)
		if timeout == probeTimeout {
			s.giveUp(err)
		}
	}
	return err
}
