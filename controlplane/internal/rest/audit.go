package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListAuditEvents answers GET /api/events/audit.
func (s *Server) ListAuditEvents(ctx context.Context, r api.ListAuditEventsRequestObject) (api.ListAuditEventsResponseObject, error) {
	events, next, err := s.state.ListAuditEvents(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListAuditEvents200JSONResponse(events), err
}
