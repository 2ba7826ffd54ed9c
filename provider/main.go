// Command terraform-provider-wattle is the Terraform provider of Wattle: every
// noun of the contract, served to Terraform or OpenTofu over protocol 6.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

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
	var options []tf6server.ServeOpt
	if *debugger {
		options = append(options, tf6server.WithManagedDebug())
	} else {
		// Whoever stops a run often tells the whole process group. Terraform
		// then waits for what is under way and ends the provider; if that ended
		// by itself, an object that is being made would be in no state.
		signal.Ignore(syscall.SIGTERM)
	}
	if err := tf6server.Serve("registry.terraform.io/wattlenet/wattle", runtime.NewServer(version), options...); err != nil {
		fmt.Fprintln(os.Stderr, "terraform-provider-wattle:", err)
		os.Exit(1)
	}
}
