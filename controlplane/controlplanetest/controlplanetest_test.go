package controlplanetest_test

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

func TestNewIsTheRealServer(t *testing.T) {
	plane := controlplanetest.New(t)
	group, err := plane.Client.CreateGroup(t.Context(), api.GroupRequest{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	read, err := plane.Client.GetGroup(t.Context(), group.Id)
	if err != nil || read.Name != "web" {
		t.Errorf("%+v, %v", read, err)
	}
	machine := controlplanetest.NewMachine(t, plane)
	if _, err := plane.Client.GetPeer(t.Context(), machine.PeerID); err != nil {
		t.Error(err)
	}
}
