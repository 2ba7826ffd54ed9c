package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListIdentityProviders answers GET /api/identity-providers.
func (s *Server) ListIdentityProviders(ctx context.Context, r api.ListIdentityProvidersRequestObject) (api.ListIdentityProvidersResponseObject, error) {
	providers, next, err := s.state.ListIdentityProviders(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListIdentityProviders200JSONResponse(providers), err
}

// GetIdentityProvider answers GET /api/identity-providers/{identity_provider_id}.
func (s *Server) GetIdentityProvider(ctx context.Context, r api.GetIdentityProviderRequestObject) (api.GetIdentityProviderResponseObject, error) {
	provider, err := s.state.GetIdentityProvider(ctx, caller(ctx), r.IdentityProviderId)
	return api.GetIdentityProvider200JSONResponse(provider), err
}

// CreateIdentityProvider answers POST /api/identity-providers.
func (s *Server) CreateIdentityProvider(ctx context.Context, r api.CreateIdentityProviderRequestObject) (api.CreateIdentityProviderResponseObject, error) {
	provider, err := s.state.CreateIdentityProvider(ctx, caller(ctx), *r.Body)
	return api.CreateIdentityProvider200JSONResponse(provider), err
}

// UpdateIdentityProvider answers PUT /api/identity-providers/{identity_provider_id}.
func (s *Server) UpdateIdentityProvider(ctx context.Context, r api.UpdateIdentityProviderRequestObject) (api.UpdateIdentityProviderResponseObject, error) {
	provider, err := s.state.UpdateIdentityProvider(ctx, caller(ctx), r.IdentityProviderId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateIdentityProvider200JSONResponse(provider), err
}

// DeleteIdentityProvider answers DELETE /api/identity-providers/{identity_provider_id}.
func (s *Server) DeleteIdentityProvider(ctx context.Context, r api.DeleteIdentityProviderRequestObject) (api.DeleteIdentityProviderResponseObject, error) {
	err := s.state.DeleteIdentityProvider(ctx, caller(ctx), r.IdentityProviderId, text(r.Params.IfMatch))
	return api.DeleteIdentityProvider200JSONResponse{}, err
}
