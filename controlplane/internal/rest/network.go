package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListNetworks answers GET /api/networks.
func (s *Server) ListNetworks(ctx context.Context, r api.ListNetworksRequestObject) (api.ListNetworksResponseObject, error) {
	networks, next, err := s.state.ListNetworks(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListNetworks200JSONResponse(networks), err
}

// CreateNetwork answers POST /api/networks.
func (s *Server) CreateNetwork(ctx context.Context, r api.CreateNetworkRequestObject) (api.CreateNetworkResponseObject, error) {
	network, err := s.state.CreateNetwork(ctx, caller(ctx), *r.Body)
	return api.CreateNetwork200JSONResponse(network), err
}

// GetNetwork answers GET /api/networks/{network_id}.
func (s *Server) GetNetwork(ctx context.Context, r api.GetNetworkRequestObject) (api.GetNetworkResponseObject, error) {
	network, err := s.state.GetNetwork(ctx, caller(ctx), r.NetworkId)
	return api.GetNetwork200JSONResponse(network), err
}

// UpdateNetwork answers PUT /api/networks/{network_id}.
func (s *Server) UpdateNetwork(ctx context.Context, r api.UpdateNetworkRequestObject) (api.UpdateNetworkResponseObject, error) {
	network, err := s.state.UpdateNetwork(ctx, caller(ctx), r.NetworkId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateNetwork200JSONResponse(network), err
}

// DeleteNetwork answers DELETE /api/networks/{network_id}.
func (s *Server) DeleteNetwork(ctx context.Context, r api.DeleteNetworkRequestObject) (api.DeleteNetworkResponseObject, error) {
	err := s.state.DeleteNetwork(ctx, caller(ctx), r.NetworkId, text(r.Params.IfMatch))
	return api.DeleteNetwork200JSONResponse{}, err
}
