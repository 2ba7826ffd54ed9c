package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// RenderCloudInit answers POST /api/cloud-init.
func (s *Server) RenderCloudInit(ctx context.Context, r api.RenderCloudInitRequestObject) (api.RenderCloudInitResponseObject, error) {
	rendered, err := s.state.RenderCloudInit(ctx, *r.Body)
	return api.RenderCloudInit200JSONResponse(rendered), err
}
