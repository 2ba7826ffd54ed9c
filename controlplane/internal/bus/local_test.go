package bus_test

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/bus"
	"github.com/wattlenet/wattle/controlplane/internal/bus/bustest"
)

func TestLocal(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Bus { return bus.NewLocal() })
}
