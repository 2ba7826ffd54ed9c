package control

import (
	"os"
	"runtime"

	"github.com/wattlenet/wattle/generated/api"
)

// Facts returns what this machine tells about itself.
func Facts(agentVersion string) api.MachineFacts {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unnamed"
	}
	return api.MachineFacts{
		Hostname: hostname, Os: runtime.GOOS, Arch: runtime.GOARCH,
		KernelVersion: kernelVersion(), AgentVersion: agentVersion[:min(len(agentVersion), 64)],
	}
}
