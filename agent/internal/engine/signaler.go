package engine

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/wattlenet/wattle/agent/internal/control"
)

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
