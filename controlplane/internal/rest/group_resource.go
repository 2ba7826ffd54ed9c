package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListGroupResources answers GET /api/groups/{group_id}/resources.
func (s *Server) ListGroupResources(ctx context.Context, r api.ListGroupResourcesRequestObject) (api.ListGroupResourcesResponseObject, error) {
	edges, next, err := s.state.ListGroupResources(ctx, caller(ctx), r.GroupId, r.Params)
	nextPage(ctx, next)
	return api.ListGroupResources200JSONResponse(edges), err
}

// CreateGroupResource answers POST /api/groups/{group_id}/resources.
func (s *Server) CreateGroupResource(ctx context.Context, r api.CreateGroupResourceRequestObject) (api.CreateGroupResourceResponseObject, error) {
	edge, err := s.state.CreateGroupResource(ctx, caller(ctx), r.GroupId, *r.Body)
	return api.CreateGroupResource200JSONResponse(edge), err
}

// GetGroupResource answers GET /api/groups/{group_id}/resources/{resource_id}.
func (s *Server) GetGroupResource(ctx context.Context, r api.GetGroupResourceRequestObject) (api.GetGroupResourceResponseObject, error) {
	edge, err := s.state.GetGroupResource(ctx, caller(ctx), r.GroupId, r.ResourceId)
	return api.GetGroupResource200JSONResponse(edge), err
}

// DeleteGroupResource answers DELETE /api/groups/{group_id}/resources/{resource_id}.
func (s *Server) DeleteGroupResource(ctx context.Context, r api.DeleteGroupResourceRequestObject) (api.DeleteGroupResourceResponseObject, error) {
	err := s.state.DeleteGroupResource(ctx, caller(ctx), r.GroupId, r.ResourceId, text(r.Params.IfMatch))
	return api.DeleteGroupResource200JSONResponse{}, err
}
