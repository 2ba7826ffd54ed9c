package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// GetDnsSettings answers GET /api/dns/settings.
func (s *Server) GetDnsSettings(ctx context.Context, _ api.GetDnsSettingsRequestObject) (api.GetDnsSettingsResponseObject, error) {
	settings, err := s.state.GetDNSSettings(ctx, caller(ctx))
	return api.GetDnsSettings200JSONResponse(settings), err
}

// UpdateDnsSettings answers PUT /api/dns/settings.
func (s *Server) UpdateDnsSettings(ctx context.Context, r api.UpdateDnsSettingsRequestObject) (api.UpdateDnsSettingsResponseObject, error) {
	settings, err := s.state.ReplaceDNSSettings(ctx, caller(ctx), *r.Body, text(r.Params.IfMatch))
	return api.UpdateDnsSettings200JSONResponse(settings), err
}

// PatchDnsSettings answers PATCH /api/dns/settings.
func (s *Server) PatchDnsSettings(ctx context.Context, r api.PatchDnsSettingsRequestObject) (api.PatchDnsSettingsResponseObject, error) {
	settings, err := s.state.MergeDNSSettings(ctx, caller(ctx), *r.Body, text(r.Params.IfMatch))
	return api.PatchDnsSettings200JSONResponse(settings), err
}

// ResetDnsSettings answers DELETE /api/dns/settings.
func (s *Server) ResetDnsSettings(ctx context.Context, r api.ResetDnsSettingsRequestObject) (api.ResetDnsSettingsResponseObject, error) {
	err := s.state.ResetDNSSettings(ctx, caller(ctx), text(r.Params.IfMatch))
	return api.ResetDnsSettings200JSONResponse{}, err
}
