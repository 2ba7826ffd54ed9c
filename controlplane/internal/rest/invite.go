package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/generated/api"
)

// ListInvites answers GET /api/users/invites.
func (s *Server) ListInvites(ctx context.Context, r api.ListInvitesRequestObject) (api.ListInvitesResponseObject, error) {
	invites, next, err := s.state.ListInvites(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListInvites200JSONResponse(invites), err
}

// CreateInvite answers POST /api/users/invites.
func (s *Server) CreateInvite(ctx context.Context, r api.CreateInviteRequestObject) (api.CreateInviteResponseObject, error) {
	invite, err := s.state.CreateInvite(ctx, caller(ctx), *r.Body)
	return api.CreateInvite200JSONResponse(invite), err
}

// GetInvite answers GET /api/users/invites/{invite_id}.
func (s *Server) GetInvite(ctx context.Context, r api.GetInviteRequestObject) (api.GetInviteResponseObject, error) {
	invite, err := s.state.GetInvite(ctx, caller(ctx), r.InviteId)
	return api.GetInvite200JSONResponse(invite), err
}

// DeleteInvite answers DELETE /api/users/invites/{invite_id}.
func (s *Server) DeleteInvite(ctx context.Context, r api.DeleteInviteRequestObject) (api.DeleteInviteResponseObject, error) {
	err := s.state.DeleteInvite(ctx, caller(ctx), r.InviteId, text(r.Params.IfMatch))
	return api.DeleteInvite200JSONResponse{}, err
}

// RegenerateInvite answers POST /api/users/invites/{invite_id}/regenerate.
func (s *Server) RegenerateInvite(ctx context.Context, r api.RegenerateInviteRequestObject) (api.RegenerateInviteResponseObject, error) {
	link, err := s.state.RegenerateInvite(ctx, caller(ctx), r.InviteId, *r.Body)
	return api.RegenerateInvite200JSONResponse(link), err
}

// GetInviteInfo answers GET /api/invites/{invite_token}.
func (s *Server) GetInviteInfo(ctx context.Context, r api.GetInviteInfoRequestObject) (api.GetInviteInfoResponseObject, error) {
	invite, err := s.state.GetInviteInfo(ctx, r.InviteToken)
	return api.GetInviteInfo200JSONResponse(invite), s.authenticator.Guessed(exchangeOf(ctx).remote, err)
}

// AcceptInvite answers POST /api/invites/{invite_token}/accept.
func (s *Server) AcceptInvite(ctx context.Context, r api.AcceptInviteRequestObject) (api.AcceptInviteResponseObject, error) {
	accepted, err := s.state.AcceptInvite(ctx, caller(ctx), r.InviteToken, *r.Body)
	return api.AcceptInvite200JSONResponse(accepted), s.authenticator.Guessed(exchangeOf(ctx).remote, err)
}

// invitePaths leads the public paths of an invite from where clients of this API
// family look, GET /api/users/invites/{invite_token} and POST .../accept, to where
// they are. There an administrator's GET by the id would take them.
func invitePaths(r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, invitesPath+"/")
	if !ok {
		return
	}
	secret, accept := strings.CutSuffix(rest, "/accept")
	if !strings.HasPrefix(secret, string(token.Invite)) || strings.Contains(secret, "/") {
		return
	}
	if !accept && r.Method == http.MethodGet || accept && r.Method == http.MethodPost {
		r.URL.Path, r.URL.RawPath = "/api/invites/"+rest, ""
	}
}
