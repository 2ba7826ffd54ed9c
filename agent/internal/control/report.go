package control

import (
	"context"
	"time"

	"github.com/wattlenet/wattle/generated/api"
)

// Choices of ours.
const (
	reportTimeout = 30 * time.Second

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
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-s.report:
			asked = true
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
		if err := s.post(ctx, report); err != nil {
			s.log.Debug("status not reported", "error", err)
			continue
		}
		if report.Applied != nil {
			told = *report.Applied
		}
	}
}

func (s *Session) post(ctx context.Context, report api.StatusReport) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return s.config.Client.report(ctx, report)
}
