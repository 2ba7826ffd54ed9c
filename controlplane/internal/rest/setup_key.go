package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListSetupKeys answers GET /api/setup-keys.
func (s *Server) ListSetupKeys(ctx context.Context, r api.ListSetupKeysRequestObject) (api.ListSetupKeysResponseObject, error) {
	keys, next, err := s.state.ListSetupKeys(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListSetupKeys200JSONResponse(keys), err
}

// CreateSetupKey answers POST /api/setup-keys.
func (s *Server) CreateSetupKey(ctx context.Context, r api.CreateSetupKeyRequestObject) (api.CreateSetupKeyResponseObject, error) {
	key, err := s.state.CreateSetupKey(ctx, caller(ctx), *r.Body)
	return api.CreateSetupKey200JSONResponse(key), err
}

// GetSetupKey answers GET /api/setup-keys/{setup_key_id}.
func (s *Server) GetSetupKey(ctx context.Context, r api.GetSetupKeyRequestObject) (api.GetSetupKeyResponseObject, error) {
	key, err := s.state.GetSetupKey(ctx, caller(ctx), r.SetupKeyId)
	return api.GetSetupKey200JSONResponse(key), err
}

// UpdateSetupKey answers PUT /api/setup-keys/{setup_key_id}.
func (s *Server) UpdateSetupKey(ctx context.Context, r api.UpdateSetupKeyRequestObject) (api.UpdateSetupKeyResponseObject, error) {
	key, err := s.state.UpdateSetupKey(ctx, caller(ctx), r.SetupKeyId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateSetupKey200JSONResponse(key), err
}

// DeleteSetupKey answers DELETE /api/setup-keys/{setup_key_id}.
func (s *Server) DeleteSetupKey(ctx context.Context, r api.DeleteSetupKeyRequestObject) (api.DeleteSetupKeyResponseObject, error) {
	err := s.state.DeleteSetupKey(ctx, caller(ctx), r.SetupKeyId, text(r.Params.IfMatch))
	return api.DeleteSetupKey200JSONResponse{}, err
}

// RevokeSetupKey answers POST /api/setup-keys/{setup_key_id}/revoke.
func (s *Server) RevokeSetupKey(ctx context.Context, r api.RevokeSetupKeyRequestObject) (api.RevokeSetupKeyResponseObject, error) {
	key, err := s.state.RevokeSetupKey(ctx, caller(ctx), r.SetupKeyId)
	return api.RevokeSetupKey200JSONResponse(key), err
}
