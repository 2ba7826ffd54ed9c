// Command wattle joins a machine to a Wattle network.
package main

import (
	"os"

	"github.com/wattlenet/wattle/agent/internal/cli"
	"github.com/wattlenet/wattle/internal/program"
)

func main() { os.Exit(program.Main(cli.New())) }
