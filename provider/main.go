// Command terraform-provider-wattle is the Terraform provider of Wattle: every
// noun of the contract, served to Terraform or OpenTofu over protocol 6.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// version is set when a release is built.
var version = "dev"

func main() {
	debugger := flag.Bool("debug", false, "wait for a debugger and for Terraform to attach")
	flag.Parse()
	silence(os.Environ())
	// The process lives for seconds and holds little: fewer collections save
	// a third of its processor time.
	debug.SetGCPercent(400)
	err := providerserver.Serve(context.Background(), runtime.New(version), providerserver.ServeOpts{
		Address:         "registry.terraform.io/wattlenet/wattle",
		Debug:           *debugger,
		ProtocolVersion: 6,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "terraform-provider-wattle:", err)
		os.Exit(1)
	}
}
