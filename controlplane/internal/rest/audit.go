package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// GetAuditEvent answers GET /api/events/audit/{event_id}.
func (s *Server) GetAuditEvent(ctx context.Context, r api.GetAuditEventRequestObject) (api.GetAuditEventResponseObject, error) {
	event, err := s.state.GetAuditEvent(ctx, caller(ctx), r.EventId)
	return api.GetAuditEvent200JSONResponse(event), err
}

// ListAuditEvents answers GET /api/events/audit.
func (s *Server) ListAuditEvents(ctx context.Context, r api.ListAuditEventsRequestObject) (api.ListAuditEventsResponseObject, error) {
	events, next, err := s.state.ListAuditEvents(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListAuditEvents200JSONResponse(events), err
}
