// Command wattle-server is the control plane of Wattle: management API, agent
// protocol and an embedded relay in one program.
package main

import (
	"os"

	"github.com/wattlenet/wattle/internal/program"
)

func main() { os.Exit(program.Main(newCommand())) }
