package state

import (
	"context"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/generated/api"
)

// ListPublished lists what an account publishes to the world. This version
// publishes nothing.
func (s *State) ListPublished(_ context.Context, p auth.Principal) (items []api.PublishedObject, err error) {
	return []api.PublishedObject{}, s.reading(p, func(*account) error { return nil })
}
