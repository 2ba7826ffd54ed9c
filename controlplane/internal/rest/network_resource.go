package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListNetworkResources answers GET /api/networks/{network_id}/resources.
func (s *Server) ListNetworkResources(ctx context.Context, r api.ListNetworkResourcesRequestObject) (api.ListNetworkResourcesResponseObject, error) {
	resources, next, err := s.state.ListNetworkResources(ctx, caller(ctx), r.NetworkId, r.Params)
	nextPage(ctx, next)
	return api.ListNetworkResources200JSONResponse(resources), err
}

// CreateNetworkResource answers POST /api/networks/{network_id}/resources.
func (s *Server) CreateNetworkResource(ctx context.Context, r api.CreateNetworkResourceRequestObject) (api.CreateNetworkResourceResponseObject, error) {
	resource, err := s.state.CreateNetworkResource(ctx, caller(ctx), r.NetworkId, *r.Body)
	return api.CreateNetworkResource200JSONResponse(resource), err
}

// GetNetworkResource answers GET /api/networks/{network_id}/resources/{resource_id}.
func (s *Server) GetNetworkResource(ctx context.Context, r api.GetNetworkResourceRequestObject) (api.GetNetworkResourceResponseObject, error) {
	resource, err := s.state.GetNetworkResource(ctx, caller(ctx), r.NetworkId, r.ResourceId)
	return api.GetNetworkResource200JSONResponse(resource), err
}

// UpdateNetworkResource answers PUT /api/networks/{network_id}/resources/{resource_id}.
func (s *Server) UpdateNetworkResource(ctx context.Context, r api.UpdateNetworkResourceRequestObject) (api.UpdateNetworkResourceResponseObject, error) {
	resource, err := s.state.UpdateNetworkResource(ctx, caller(ctx), r.NetworkId, r.ResourceId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateNetworkResource200JSONResponse(resource), err
}

// DeleteNetworkResource answers DELETE /api/networks/{network_id}/resources/{resource_id}.
func (s *Server) DeleteNetworkResource(ctx context.Context, r api.DeleteNetworkResourceRequestObject) (api.DeleteNetworkResourceResponseObject, error) {
	err := s.state.DeleteNetworkResource(ctx, caller(ctx), r.NetworkId, r.ResourceId, text(r.Params.IfMatch))
	return api.DeleteNetworkResource200JSONResponse{}, err
}
