package control

import (
	"context"
	"time"

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
)

func (s *Session) askReport() {
	select {
	case s.report <- struct{}{}:
	default:
	}
}

// reportWhenAsked posts facts and position until ctx ends.
func (s *Session) reportWhenAsked(ctx context.Context) {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	var told api.MapPosition
	for {
		asked, timeout := false, reportTimeout
		select {
		case <-ctx.Done():
			return
		case <-s.report:
			asked = true
		case <-s.probe:
			asked, timeout = true, probeTimeout
		case <-ticker.C:
		}
		s.mu.Lock()
		report := api.StatusReport{Facts: s.config.Facts, Applied: s.applied}
		mismatch := s.mismatch
		s.mu.Unlock()
		if mismatch {
			report.DigestMismatch = &mismatch
		}
		if !asked && (report.Applied == nil || *report.Applied == told) {
			continue
		}
		if err := s.post(ctx, report, timeout); err != nil {
			s.log.Debug("status not reported", "error", err)
			if timeout == probeTimeout {
				s.giveUp(err)
			}
			continue
		}
		if report.Applied != nil {
			told = *report.Applied
		}
	}
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

func (s *Session) post(ctx context.Context, report api.StatusReport, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.config.Client.report(ctx, report)
}
