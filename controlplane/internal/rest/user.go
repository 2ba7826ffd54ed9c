package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListUsers answers GET /api/users.
func (s *Server) ListUsers(ctx context.Context, r api.ListUsersRequestObject) (api.ListUsersResponseObject, error) {
	users, next, err := s.state.ListUsers(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListUsers200JSONResponse(users), err
}

// GetUser answers GET /api/users/{user_id}.
func (s *Server) GetUser(ctx context.Context, r api.GetUserRequestObject) (api.GetUserResponseObject, error) {
	user, err := s.state.GetUser(ctx, caller(ctx), r.UserId)
	return api.GetUser200JSONResponse(user), err
}

// GetCurrentUser answers GET /api/users/current.
func (s *Server) GetCurrentUser(ctx context.Context, _ api.GetCurrentUserRequestObject) (api.GetCurrentUserResponseObject, error) {
	user, err := s.state.GetCurrentUser(ctx, caller(ctx))
	return api.GetCurrentUser200JSONResponse(user), err
}

// CreateUser answers POST /api/users.
func (s *Server) CreateUser(ctx context.Context, r api.CreateUserRequestObject) (api.CreateUserResponseObject, error) {
	user, err := s.state.CreateUser(ctx, caller(ctx), *r.Body)
	return api.CreateUser200JSONResponse(user), err
}

// UpdateUser answers PUT /api/users/{user_id}.
func (s *Server) UpdateUser(ctx context.Context, r api.UpdateUserRequestObject) (api.UpdateUserResponseObject, error) {
	user, err := s.state.UpdateUser(ctx, caller(ctx), r.UserId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateUser200JSONResponse(user), err
}

// DeleteUser answers DELETE /api/users/{user_id}.
func (s *Server) DeleteUser(ctx context.Context, r api.DeleteUserRequestObject) (api.DeleteUserResponseObject, error) {
	err := s.state.DeleteUser(ctx, caller(ctx), r.UserId, text(r.Params.IfMatch))
	return api.DeleteUser200JSONResponse{}, err
}
