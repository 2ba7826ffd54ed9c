package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListGroups answers GET /api/groups.
func (s *Server) ListGroups(ctx context.Context, r api.ListGroupsRequestObject) (api.ListGroupsResponseObject, error) {
	groups, next, err := s.state.ListGroups(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListGroups200JSONResponse(groups), err
}

// CreateGroup answers POST /api/groups.
func (s *Server) CreateGroup(ctx context.Context, r api.CreateGroupRequestObject) (api.CreateGroupResponseObject, error) {
	group, err := s.state.CreateGroup(ctx, caller(ctx), *r.Body)
	return api.CreateGroup200JSONResponse(group), err
}

// GetGroup answers GET /api/groups/{group_id}.
func (s *Server) GetGroup(ctx context.Context, r api.GetGroupRequestObject) (api.GetGroupResponseObject, error) {
	group, err := s.state.GetGroup(ctx, caller(ctx), r.GroupId)
	return api.GetGroup200JSONResponse(group), err
}

// UpdateGroup answers PUT /api/groups/{group_id}.
func (s *Server) UpdateGroup(ctx context.Context, r api.UpdateGroupRequestObject) (api.UpdateGroupResponseObject, error) {
	group, err := s.state.UpdateGroup(ctx, caller(ctx), r.GroupId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateGroup200JSONResponse(group), err
}

// DeleteGroup answers DELETE /api/groups/{group_id}.
func (s *Server) DeleteGroup(ctx context.Context, r api.DeleteGroupRequestObject) (api.DeleteGroupResponseObject, error) {
	err := s.state.DeleteGroup(ctx, caller(ctx), r.GroupId, text(r.Params.IfMatch))
	return api.DeleteGroup200JSONResponse{}, err
}

// ListGroupMemberships answers GET /api/groups/{group_id}/peers.
func (s *Server) ListGroupMemberships(ctx context.Context, r api.ListGroupMembershipsRequestObject) (api.ListGroupMembershipsResponseObject, error) {
	memberships, next, err := s.state.ListGroupMemberships(ctx, caller(ctx), r.GroupId, r.Params)
	nextPage(ctx, next)
	return api.ListGroupMemberships200JSONResponse(memberships), err
}

// CreateGroupMembership answers POST /api/groups/{group_id}/peers.
func (s *Server) CreateGroupMembership(ctx context.Context, r api.CreateGroupMembershipRequestObject) (api.CreateGroupMembershipResponseObject, error) {
	membership, err := s.state.CreateGroupMembership(ctx, caller(ctx), r.GroupId, *r.Body)
	return api.CreateGroupMembership200JSONResponse(membership), err
}

// GetGroupMembership answers GET /api/groups/{group_id}/peers/{peer_id}.
func (s *Server) GetGroupMembership(ctx context.Context, r api.GetGroupMembershipRequestObject) (api.GetGroupMembershipResponseObject, error) {
	membership, err := s.state.GetGroupMembership(ctx, caller(ctx), r.GroupId, r.PeerId)
	return api.GetGroupMembership200JSONResponse(membership), err
}

// DeleteGroupMembership answers DELETE /api/groups/{group_id}/peers/{peer_id}.
func (s *Server) DeleteGroupMembership(ctx context.Context, r api.DeleteGroupMembershipRequestObject) (api.DeleteGroupMembershipResponseObject, error) {
	err := s.state.DeleteGroupMembership(ctx, caller(ctx), r.GroupId, r.PeerId, text(r.Params.IfMatch))
	return api.DeleteGroupMembership200JSONResponse{}, err
}

// text returns an optional text, "" when it is absent.
func text(optional *string) string {
	if optional == nil {
		return ""
	}
	return *optional
}
