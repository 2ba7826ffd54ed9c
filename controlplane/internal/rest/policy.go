package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListPolicies answers GET /api/policies.
func (s *Server) ListPolicies(ctx context.Context, r api.ListPoliciesRequestObject) (api.ListPoliciesResponseObject, error) {
	policies, next, err := s.state.ListPolicies(ctx, caller(ctx), r.Params)
	nextPage(ctx, next)
	return api.ListPolicies200JSONResponse(policies), err
}

// CreatePolicy answers POST /api/policies.
func (s *Server) CreatePolicy(ctx context.Context, r api.CreatePolicyRequestObject) (api.CreatePolicyResponseObject, error) {
	policy, err := s.state.CreatePolicy(ctx, caller(ctx), *r.Body)
	return api.CreatePolicy200JSONResponse(policy), err
}

// GetPolicy answers GET /api/policies/{policy_id}.
func (s *Server) GetPolicy(ctx context.Context, r api.GetPolicyRequestObject) (api.GetPolicyResponseObject, error) {
	policy, err := s.state.GetPolicy(ctx, caller(ctx), r.PolicyId)
	return api.GetPolicy200JSONResponse(policy), err
}

// UpdatePolicy answers PUT /api/policies/{policy_id}.
func (s *Server) UpdatePolicy(ctx context.Context, r api.UpdatePolicyRequestObject) (api.UpdatePolicyResponseObject, error) {
	policy, err := s.state.UpdatePolicy(ctx, caller(ctx), r.PolicyId, *r.Body, text(r.Params.IfMatch))
	return api.UpdatePolicy200JSONResponse(policy), err
}

// DeletePolicy answers DELETE /api/policies/{policy_id}.
func (s *Server) DeletePolicy(ctx context.Context, r api.DeletePolicyRequestObject) (api.DeletePolicyResponseObject, error) {
	err := s.state.DeletePolicy(ctx, caller(ctx), r.PolicyId, text(r.Params.IfMatch))
	return api.DeletePolicy200JSONResponse{}, err
}
