package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListProxyClusters answers GET /api/reverse-proxies/clusters.
func (s *Server) ListProxyClusters(ctx context.Context, _ api.ListProxyClustersRequestObject) (api.ListProxyClustersResponseObject, error) {
	items, err := s.state.ListPublished(ctx, caller(ctx))
	return api.ListProxyClusters200JSONResponse(items), err
}

// ListProxyDomains answers GET /api/reverse-proxies/domains.
func (s *Server) ListProxyDomains(ctx context.Context, _ api.ListProxyDomainsRequestObject) (api.ListProxyDomainsResponseObject, error) {
	items, err := s.state.ListPublished(ctx, caller(ctx))
	return api.ListProxyDomains200JSONResponse(items), err
}

// ListProxyServices answers GET /api/reverse-proxies/services.
func (s *Server) ListProxyServices(ctx context.Context, _ api.ListProxyServicesRequestObject) (api.ListProxyServicesResponseObject, error) {
	items, err := s.state.ListPublished(ctx, caller(ctx))
	return api.ListProxyServices200JSONResponse(items), err
}
