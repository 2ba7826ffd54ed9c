package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListAllNetworkRouters answers GET /api/networks/routers.
func (s *Server) ListAllNetworkRouters(ctx context.Context, r api.ListAllNetworkRoutersRequestObject) (api.ListAllNetworkRoutersResponseObject, error) {
	routers, next, err := s.state.ListAllNetworkRouters(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListAllNetworkRouters200JSONResponse(routers), err
}

// ListNetworkRouters answers GET /api/networks/{network_id}/routers.
func (s *Server) ListNetworkRouters(ctx context.Context, r api.ListNetworkRoutersRequestObject) (api.ListNetworkRoutersResponseObject, error) {
	routers, next, err := s.state.ListNetworkRouters(ctx, caller(ctx), r.NetworkId, r.Params)
	nextPage(ctx, next)
	return api.ListNetworkRouters200JSONResponse(routers), err
}

// CreateNetworkRouter answers POST /api/networks/{network_id}/routers.
func (s *Server) CreateNetworkRouter(ctx context.Context, r api.CreateNetworkRouterRequestObject) (api.CreateNetworkRouterResponseObject, error) {
	router, err := s.state.CreateNetworkRouter(ctx, caller(ctx), r.NetworkId, *r.Body)
	return api.CreateNetworkRouter200JSONResponse(router), err
}

// GetNetworkRouter answers GET /api/networks/{network_id}/routers/{router_id}.
func (s *Server) GetNetworkRouter(ctx context.Context, r api.GetNetworkRouterRequestObject) (api.GetNetworkRouterResponseObject, error) {
	router, err := s.state.GetNetworkRouter(ctx, caller(ctx), r.NetworkId, r.RouterId)
	return api.GetNetworkRouter200JSONResponse(router), err
}

// UpdateNetworkRouter answers PUT /api/networks/{network_id}/routers/{router_id}.
func (s *Server) UpdateNetworkRouter(ctx context.Context, r api.UpdateNetworkRouterRequestObject) (api.UpdateNetworkRouterResponseObject, error) {
	router, err := s.state.UpdateNetworkRouter(ctx, caller(ctx), r.NetworkId, r.RouterId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateNetworkRouter200JSONResponse(router), err
}

// DeleteNetworkRouter answers DELETE /api/networks/{network_id}/routers/{router_id}.
func (s *Server) DeleteNetworkRouter(ctx context.Context, r api.DeleteNetworkRouterRequestObject) (api.DeleteNetworkRouterResponseObject, error) {
	err := s.state.DeleteNetworkRouter(ctx, caller(ctx), r.NetworkId, r.RouterId, text(r.Params.IfMatch))
	return api.DeleteNetworkRouter200JSONResponse{}, err
}
