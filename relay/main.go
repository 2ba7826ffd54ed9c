// Command wattle-relay carries the packets of peers that cannot reach each
// other directly: STUN and TURN over UDP and TCP.
package main

import (
	"os"

	"github.com/wattlenet/wattle/internal/program"
)

func main() { os.Exit(program.Main(newCommand())) }
