package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/generated/sdk"
)

// signaler carries sealed messages.
type signaler interface {
	Signal(ctx context.Context, peerID string, box []byte) error
}

// briefly passes signals on, with errors that fit a line of the status.
func briefly(signal signaler) func(context.Context, string, []byte) error {
	return func(ctx context.Context, peerID string, box []byte) error {
		err := signal.Signal(ctx, peerID, box)
		switch {
		case sdk.IsPeerOffline(err):
			return errPeerOffline
		case sdk.IsUnreachable(err):
			return fmt.Errorf("the control plane cannot be reached: %w", root(err))
		}
		return err
	}
}

var errPeerOffline = errors.New("the peer is not connected to the control plane")

// laterSignaler carries signals once the machine is a peer.
type laterSignaler struct {
	client atomic.Pointer[control.Client]
}

var errNotEnrolled = errors.New("this machine is not enrolled yet")

// Signal passes a sealed message to a peer.
func (s *laterSignaler) Signal(ctx context.Context, peerID string, box []byte) error {
	client := s.client.Load()
	if client == nil {
		return errNotEnrolled
	}
	return client.Signal(ctx, peerID, box)
}
