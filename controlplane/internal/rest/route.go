package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListRoutes answers GET /api/routes.
func (s *Server) ListRoutes(ctx context.Context, r api.ListRoutesRequestObject) (api.ListRoutesResponseObject, error) {
	routes, next, err := s.state.ListRoutes(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListRoutes200JSONResponse(routes), err
}

// CreateRoute answers POST /api/routes.
func (s *Server) CreateRoute(ctx context.Context, r api.CreateRouteRequestObject) (api.CreateRouteResponseObject, error) {
	route, err := s.state.CreateRoute(ctx, caller(ctx), *r.Body)
	return api.CreateRoute200JSONResponse(route), err
}

// GetRoute answers GET /api/routes/{route_id}.
func (s *Server) GetRoute(ctx context.Context, r api.GetRouteRequestObject) (api.GetRouteResponseObject, error) {
	route, err := s.state.GetRoute(ctx, caller(ctx), r.RouteId)
	return api.GetRoute200JSONResponse(route), err
}

// UpdateRoute answers PUT /api/routes/{route_id}.
func (s *Server) UpdateRoute(ctx context.Context, r api.UpdateRouteRequestObject) (api.UpdateRouteResponseObject, error) {
	route, err := s.state.UpdateRoute(ctx, caller(ctx), r.RouteId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateRoute200JSONResponse(route), err
}

// DeleteRoute answers DELETE /api/routes/{route_id}.
func (s *Server) DeleteRoute(ctx context.Context, r api.DeleteRouteRequestObject) (api.DeleteRouteResponseObject, error) {
	err := s.state.DeleteRoute(ctx, caller(ctx), r.RouteId, text(r.Params.IfMatch))
	return api.DeleteRoute200JSONResponse{}, err
}
