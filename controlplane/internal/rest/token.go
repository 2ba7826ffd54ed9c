package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListTokens answers GET /api/users/{user_id}/tokens.
func (s *Server) ListTokens(ctx context.Context, r api.ListTokensRequestObject) (api.ListTokensResponseObject, error) {
	tokens, next, err := s.state.ListTokens(ctx, caller(ctx), r.UserId, r.Params)
	nextPage(ctx, next)
	return api.ListTokens200JSONResponse(tokens), err
}

// CreateToken answers POST /api/users/{user_id}/tokens.
func (s *Server) CreateToken(ctx context.Context, r api.CreateTokenRequestObject) (api.CreateTokenResponseObject, error) {
	token, err := s.state.CreateToken(ctx, caller(ctx), r.UserId, *r.Body)
	return api.CreateToken200JSONResponse(token), err
}

// GetToken answers GET /api/users/{user_id}/tokens/{token_id}.
func (s *Server) GetToken(ctx context.Context, r api.GetTokenRequestObject) (api.GetTokenResponseObject, error) {
	token, err := s.state.GetToken(ctx, caller(ctx), r.UserId, r.TokenId)
	return api.GetToken200JSONResponse(token), err
}

// DeleteToken answers DELETE /api/users/{user_id}/tokens/{token_id}.
func (s *Server) DeleteToken(ctx context.Context, r api.DeleteTokenRequestObject) (api.DeleteTokenResponseObject, error) {
	err := s.state.DeleteToken(ctx, caller(ctx), r.UserId, r.TokenId, text(r.Params.IfMatch))
	return api.DeleteToken200JSONResponse{}, err
}
