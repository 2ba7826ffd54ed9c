package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListGroupReferrers answers GET /api/groups/{group_id}/referrers.
func (s *Server) ListGroupReferrers(ctx context.Context, r api.ListGroupReferrersRequestObject) (api.ListGroupReferrersResponseObject, error) {
	referrers, err := s.state.ListGroupReferrers(ctx, caller(ctx), r.GroupId)
	return api.ListGroupReferrers200JSONResponse(referrers), err
}

// ListPeerReferrers answers GET /api/peers/{peer_id}/referrers.
func (s *Server) ListPeerReferrers(ctx context.Context, r api.ListPeerReferrersRequestObject) (api.ListPeerReferrersResponseObject, error) {
	referrers, err := s.state.ListPeerReferrers(ctx, caller(ctx), r.PeerId)
	return api.ListPeerReferrers200JSONResponse(referrers), err
}

// ListNetworkReferrers answers GET /api/networks/{network_id}/referrers.
func (s *Server) ListNetworkReferrers(ctx context.Context, r api.ListNetworkReferrersRequestObject) (api.ListNetworkReferrersResponseObject, error) {
	referrers, err := s.state.ListNetworkReferrers(ctx, caller(ctx), r.NetworkId)
	return api.ListNetworkReferrers200JSONResponse(referrers), err
}
