package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListAccounts answers GET /api/accounts.
func (s *Server) ListAccounts(ctx context.Context, _ api.ListAccountsRequestObject) (api.ListAccountsResponseObject, error) {
	accounts, err := s.state.ListAccounts(ctx, caller(ctx))
	return api.ListAccounts200JSONResponse(accounts), err
}

// UpdateAccount answers PUT /api/accounts/{account_id}.
func (s *Server) UpdateAccount(ctx context.Context, r api.UpdateAccountRequestObject) (api.UpdateAccountResponseObject, error) {
	account, err := s.state.UpdateAccount(ctx, caller(ctx), r.AccountId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateAccount200JSONResponse(account), err
}

// GetAccountSettings answers GET /api/accounts/current/settings.
func (s *Server) GetAccountSettings(ctx context.Context, _ api.GetAccountSettingsRequestObject) (api.GetAccountSettingsResponseObject, error) {
	settings, err := s.state.GetAccountSettings(ctx, caller(ctx))
	return api.GetAccountSettings200JSONResponse(settings), err
}

// UpdateAccountSettings answers PATCH /api/accounts/current/settings.
func (s *Server) UpdateAccountSettings(ctx context.Context, r api.UpdateAccountSettingsRequestObject) (api.UpdateAccountSettingsResponseObject, error) {
	settings, err := s.state.UpdateAccountSettings(ctx, caller(ctx), *r.Body, text(r.Params.IfMatch))
	return api.UpdateAccountSettings200JSONResponse(settings), err
}
