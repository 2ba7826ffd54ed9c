package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// ProtocolVersion is the version of the agent protocol.
const ProtocolVersion = 1

// GetInstance answers GET /api/instance.
func (s *Server) GetInstance(ctx context.Context, _ api.GetInstanceRequestObject) (api.GetInstanceResponseObject, error) {
	instance, err := s.state.GetInstance(ctx)
	return api.GetInstance200JSONResponse(instance), err
}

// GetInstanceVersion answers GET /api/instance/version.
func (s *Server) GetInstanceVersion(context.Context, api.GetInstanceVersionRequestObject) (api.GetInstanceVersionResponseObject, error) {
	return api.GetInstanceVersion200JSONResponse{ManagementCurrentVersion: program.Version(), Api: ProtocolVersion}, nil
}

// SetupInstance answers POST /api/setup.
func (s *Server) SetupInstance(ctx context.Context, r api.SetupInstanceRequestObject) (api.SetupInstanceResponseObject, error) {
	result, err := s.state.SetupInstance(ctx, *r.Body)
	return api.SetupInstance200JSONResponse(result), err
}
