// Program release builds the Terraform provider as the registry and a
// filesystem mirror want it.
//
//	dist/terraform-provider-wattle_VERSION_OS_ARCH.zip
//	dist/terraform-provider-wattle_VERSION_SHA256SUMS
//	dist/terraform-provider-wattle_VERSION_manifest.json   terraform-registry-manifest.json of the registry
//	dist/mirror/HOST/wattlenet/wattle/...zip               provider_installation { filesystem_mirror }
//
// Two runs over the same sources give the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// usual is every platform of a release.
const usual = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64,freebsd/amd64,freebsd/arm64"

// semantic is a version as the registry takes it (semver.org, without build
// metadata).
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "version such as 0.1.0, or v0.1.0; required")
	out := flags.String("out", "dist", "folder of the release")
	platforms := flags.String("platforms", usual, "platforms as os/arch, separated by commas")
	source := flags.String("provider", "./provider", "package of the provider")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := release{version: strings.TrimPrefix(*version, "v"), out: *out, source: *source}
	if !semantic.MatchString(r.version) {
		return fmt.Errorf("%q is no version such as 0.1.0; give one with -version (make release RELEASE=0.1.0)", *version)
	}
	for platform := range strings.SplitSeq(*platforms, ",") {
		system, arch, ok := strings.Cut(platform, "/")
		if !ok || system == "" || arch == "" {
			return fmt.Errorf("%q is no platform such as linux/amd64", platform)
		}
		r.platforms = append(r.platforms, target{system, arch})
	}
	if len(flags.Args()) > 0 {
		return errors.New("release takes flags only")
	}
	return r.make(ctx)
}
