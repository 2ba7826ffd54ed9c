package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListPostureChecks answers GET /api/posture-checks.
func (s *Server) ListPostureChecks(ctx context.Context, r api.ListPostureChecksRequestObject) (api.ListPostureChecksResponseObject, error) {
	checks, next, err := s.state.ListPostureChecks(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListPostureChecks200JSONResponse(checks), err
}

// CreatePostureCheck answers POST /api/posture-checks.
func (s *Server) CreatePostureCheck(ctx context.Context, r api.CreatePostureCheckRequestObject) (api.CreatePostureCheckResponseObject, error) {
	check, err := s.state.CreatePostureCheck(ctx, caller(ctx), *r.Body)
	return api.CreatePostureCheck200JSONResponse(check), err
}

// GetPostureCheck answers GET /api/posture-checks/{posture_check_id}.
func (s *Server) GetPostureCheck(ctx context.Context, r api.GetPostureCheckRequestObject) (api.GetPostureCheckResponseObject, error) {
	check, err := s.state.GetPostureCheck(ctx, caller(ctx), r.PostureCheckId)
	return api.GetPostureCheck200JSONResponse(check), err
}

// UpdatePostureCheck answers PUT /api/posture-checks/{posture_check_id}.
func (s *Server) UpdatePostureCheck(ctx context.Context, r api.UpdatePostureCheckRequestObject) (api.UpdatePostureCheckResponseObject, error) {
	check, err := s.state.UpdatePostureCheck(ctx, caller(ctx), r.PostureCheckId, *r.Body, text(r.Params.IfMatch))
	return api.UpdatePostureCheck200JSONResponse(check), err
}

// DeletePostureCheck answers DELETE /api/posture-checks/{posture_check_id}.
func (s *Server) DeletePostureCheck(ctx context.Context, r api.DeletePostureCheckRequestObject) (api.DeletePostureCheckResponseObject, error) {
	err := s.state.DeletePostureCheck(ctx, caller(ctx), r.PostureCheckId, text(r.Params.IfMatch))
	return api.DeletePostureCheck200JSONResponse{}, err
}

// ListPostureCheckReferrers answers GET /api/posture-checks/{posture_check_id}/referrers.
func (s *Server) ListPostureCheckReferrers(ctx context.Context, r api.ListPostureCheckReferrersRequestObject) (api.ListPostureCheckReferrersResponseObject, error) {
	referrers, err := s.state.ListPostureCheckReferrers(ctx, caller(ctx), r.PostureCheckId)
	return api.ListPostureCheckReferrers200JSONResponse(referrers), err
}
