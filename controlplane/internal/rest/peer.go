package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListPeers answers GET /api/peers.
func (s *Server) ListPeers(ctx context.Context, r api.ListPeersRequestObject) (api.ListPeersResponseObject, error) {
	peers, next, err := s.state.ListPeers(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListPeers200JSONResponse(peers), err
}

// GetPeer answers GET /api/peers/{peer_id}.
func (s *Server) GetPeer(ctx context.Context, r api.GetPeerRequestObject) (api.GetPeerResponseObject, error) {
	peer, err := s.state.GetPeer(ctx, caller(ctx), r.PeerId)
	return api.GetPeer200JSONResponse(peer), err
}

// UpdatePeer answers PUT /api/peers/{peer_id}.
func (s *Server) UpdatePeer(ctx context.Context, r api.UpdatePeerRequestObject) (api.UpdatePeerResponseObject, error) {
	peer, err := s.state.UpdatePeer(ctx, caller(ctx), r.PeerId, *r.Body, text(r.Params.IfMatch))
	return api.UpdatePeer200JSONResponse(peer), err
}

// DeletePeer answers DELETE /api/peers/{peer_id}.
func (s *Server) DeletePeer(ctx context.Context, r api.DeletePeerRequestObject) (api.DeletePeerResponseObject, error) {
	err := s.state.DeletePeer(ctx, caller(ctx), r.PeerId, text(r.Params.IfMatch))
	return api.DeletePeer200JSONResponse{}, err
}

// ListAccessiblePeers answers GET /api/peers/{peer_id}/accessible-peers.
func (s *Server) ListAccessiblePeers(ctx context.Context, r api.ListAccessiblePeersRequestObject) (api.ListAccessiblePeersResponseObject, error) {
	peers, err := s.state.ListAccessiblePeers(ctx, caller(ctx), r.PeerId)
	return api.ListAccessiblePeers200JSONResponse(peers), err
}
