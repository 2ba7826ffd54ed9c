package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListDnsZones answers GET /api/dns/zones.
func (s *Server) ListDnsZones(ctx context.Context, r api.ListDnsZonesRequestObject) (api.ListDnsZonesResponseObject, error) {
	zones, next, err := s.state.ListDNSZones(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListDnsZones200JSONResponse(zones), err
}

// CreateDnsZone answers POST /api/dns/zones.
func (s *Server) CreateDnsZone(ctx context.Context, r api.CreateDnsZoneRequestObject) (api.CreateDnsZoneResponseObject, error) {
	zone, err := s.state.CreateDNSZone(ctx, caller(ctx), *r.Body)
	return api.CreateDnsZone200JSONResponse(zone), err
}

// GetDnsZone answers GET /api/dns/zones/{zone_id}.
func (s *Server) GetDnsZone(ctx context.Context, r api.GetDnsZoneRequestObject) (api.GetDnsZoneResponseObject, error) {
	zone, err := s.state.GetDNSZone(ctx, caller(ctx), r.ZoneId)
	return api.GetDnsZone200JSONResponse(zone), err
}

// UpdateDnsZone answers PUT /api/dns/zones/{zone_id}.
func (s *Server) UpdateDnsZone(ctx context.Context, r api.UpdateDnsZoneRequestObject) (api.UpdateDnsZoneResponseObject, error) {
	zone, err := s.state.UpdateDNSZone(ctx, caller(ctx), r.ZoneId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateDnsZone200JSONResponse(zone), err
}

// DeleteDnsZone answers DELETE /api/dns/zones/{zone_id}.
func (s *Server) DeleteDnsZone(ctx context.Context, r api.DeleteDnsZoneRequestObject) (api.DeleteDnsZoneResponseObject, error) {
	err := s.state.DeleteDNSZone(ctx, caller(ctx), r.ZoneId, text(r.Params.IfMatch))
	return api.DeleteDnsZone200JSONResponse{}, err
}
