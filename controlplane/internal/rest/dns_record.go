package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListDnsRecords answers GET /api/dns/zones/{zone_id}/records.
func (s *Server) ListDnsRecords(ctx context.Context, r api.ListDnsRecordsRequestObject) (api.ListDnsRecordsResponseObject, error) {
	records, next, err := s.state.ListDNSRecords(ctx, caller(ctx), r.ZoneId, r.Params)
	nextPage(ctx, next)
	return api.ListDnsRecords200JSONResponse(records), err
}

// CreateDnsRecord answers POST /api/dns/zones/{zone_id}/records.
func (s *Server) CreateDnsRecord(ctx context.Context, r api.CreateDnsRecordRequestObject) (api.CreateDnsRecordResponseObject, error) {
	record, err := s.state.CreateDNSRecord(ctx, caller(ctx), r.ZoneId, *r.Body)
	return api.CreateDnsRecord200JSONResponse(record), err
}

// GetDnsRecord answers GET /api/dns/zones/{zone_id}/records/{record_id}.
func (s *Server) GetDnsRecord(ctx context.Context, r api.GetDnsRecordRequestObject) (api.GetDnsRecordResponseObject, error) {
	record, err := s.state.GetDNSRecord(ctx, caller(ctx), r.ZoneId, r.RecordId)
	return api.GetDnsRecord200JSONResponse(record), err
}

// UpdateDnsRecord answers PUT /api/dns/zones/{zone_id}/records/{record_id}.
func (s *Server) UpdateDnsRecord(ctx context.Context, r api.UpdateDnsRecordRequestObject) (api.UpdateDnsRecordResponseObject, error) {
	record, err := s.state.UpdateDNSRecord(ctx, caller(ctx), r.ZoneId, r.RecordId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateDnsRecord200JSONResponse(record), err
}

// DeleteDnsRecord answers DELETE /api/dns/zones/{zone_id}/records/{record_id}.
func (s *Server) DeleteDnsRecord(ctx context.Context, r api.DeleteDnsRecordRequestObject) (api.DeleteDnsRecordResponseObject, error) {
	err := s.state.DeleteDNSRecord(ctx, caller(ctx), r.ZoneId, r.RecordId, text(r.Params.IfMatch))
	return api.DeleteDnsRecord200JSONResponse{}, err
}
