package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/relay/server"
)

// metricsPatience bounds a request for the metrics.
const metricsPatience = 10 * time.Second

// runWithMetrics runs the relay, and serves its counters at address meanwhile.
func runWithMetrics(ctx context.Context, relay *server.Server, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("relay: listen for metrics on %s: %w", address, err), relay.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", relay.Metrics())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: metricsPatience, WriteTimeout: metricsPatience}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer func() { _ = web.Close() }() // it only reads counters
		return relay.Run(ctx)
	})
	group.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("relay: serve metrics: %w", err)
		}
		return nil
	})
	return group.Wait()
}
