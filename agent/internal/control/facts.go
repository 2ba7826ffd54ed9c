package control

import (
	"os"
	"runtime"

	"github.com/wattlenet/wattle/generated/api"
)

// Facts returns what this machine tells about itself. An empty hostname stands for the one of the operating system.
func Facts(agentVersion, hostname string) api.MachineFacts {
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			hostname = "unnamed"
		}
	}
	return api.MachineFacts{
		Hostname: hostname, Os: runtime.GOOS, Arch: runtime.GOARCH,
		KernelVersion: kernelVersion(), AgentVersion: agentVersion[:min(len(agentVersion), 64)],
	}
}
