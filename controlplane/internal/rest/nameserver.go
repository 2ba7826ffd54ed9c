package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListNameserverGroups answers GET /api/dns/nameservers.
func (s *Server) ListNameserverGroups(ctx context.Context, r api.ListNameserverGroupsRequestObject) (api.ListNameserverGroupsResponseObject, error) {
	groups, next, err := s.state.ListNameserverGroups(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListNameserverGroups200JSONResponse(groups), err
}

// CreateNameserverGroup answers POST /api/dns/nameservers.
func (s *Server) CreateNameserverGroup(ctx context.Context, r api.CreateNameserverGroupRequestObject) (api.CreateNameserverGroupResponseObject, error) {
	group, err := s.state.CreateNameserverGroup(ctx, caller(ctx), *r.Body)
	return api.CreateNameserverGroup200JSONResponse(group), err
}

// GetNameserverGroup answers GET /api/dns/nameservers/{nameserver_group_id}.
func (s *Server) GetNameserverGroup(ctx context.Context, r api.GetNameserverGroupRequestObject) (api.GetNameserverGroupResponseObject, error) {
	group, err := s.state.GetNameserverGroup(ctx, caller(ctx), r.NameserverGroupId)
	return api.GetNameserverGroup200JSONResponse(group), err
}

// UpdateNameserverGroup answers PUT /api/dns/nameservers/{nameserver_group_id}.
func (s *Server) UpdateNameserverGroup(ctx context.Context, r api.UpdateNameserverGroupRequestObject) (api.UpdateNameserverGroupResponseObject, error) {
	group, err := s.state.UpdateNameserverGroup(ctx, caller(ctx), r.NameserverGroupId, *r.Body, text(r.Params.IfMatch))
	return api.UpdateNameserverGroup200JSONResponse(group), err
}

// DeleteNameserverGroup answers DELETE /api/dns/nameservers/{nameserver_group_id}.
func (s *Server) DeleteNameserverGroup(ctx context.Context, r api.DeleteNameserverGroupRequestObject) (api.DeleteNameserverGroupResponseObject, error) {
	err := s.state.DeleteNameserverGroup(ctx, caller(ctx), r.NameserverGroupId, text(r.Params.IfMatch))
	return api.DeleteNameserverGroup200JSONResponse{}, err
}
