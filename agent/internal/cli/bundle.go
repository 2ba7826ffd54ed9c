package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/bundle"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// netcheckPatience bounds the part of a bundle that asks others.
const netcheckPatience = 10 * time.Second

// bundleOptions are the flags of `wattle debug bundle`.
type bundleOptions struct {
	redact  string
	capture time.Duration
	file    string
	form    *output
}

// packed is what `wattle debug bundle --json` prints.
type packed struct {
	Schema string       `json:"schema"`
	File   string       `json:"file"`
	Redact string       `json:"redact"`
	Parts  []packedPart `json:"parts"`
}

type packedPart struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	What  string `json:"what"`
}

func newBundle(a *app) *cobra.Command {
	var o bundleOptions
	command := &cobra.Command{
		Use:   "bundle",
		Short: "Pack what helps to find a fault into a local file",
		Long: "Pack what helps to find a fault into a local file, and list what is in it. Nothing is\n" +
			"sent to anybody. Keys, tokens and setup keys are never in it; --redact says what else is\n" +
			"taken out:\n\n" +
			"  none     nothing\n" +
			"  default  addresses of the internet\n" +
			"  strict   every address, name, id and public key\n\n" +
			"--capture logs at level debug for a while first, and notes how the status changes.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if !slices.Contains(bundle.Modes, o.redact) {
				return program.Usage("--redact %q is unknown; use %s", o.redact, strings.Join(bundle.Modes, ", "))
			}
			return o.run(command, a)
		},
	}
	o.form = outputFlags(command)
	flags := command.Flags()
	flags.StringVar(&o.redact, "redact", string(bundle.ModeDefault), "what is taken out beside secrets: "+strings.Join(bundle.Modes, ", "))
	program.DurationFlag(flags, &o.capture, "capture", 0, 0, "how long to watch with a log at level debug first")
	completeWords(command, "redact", bundle.Modes)
	flags.StringVarP(&o.file, "output", "o", "", "file to write (default: wattle-debug-TIME.tar.gz in this folder)")
	return command
}

func (o *bundleOptions) run(command *cobra.Command, a *app) error {
	ctx, client := command.Context(), a.client()
	var watched string
	if o.capture > 0 {
		var err error
		if watched, err = captureStatus(ctx, client, o.capture); err != nil {
			return exit(err)
		}
	}
	status, err := client.Status(ctx)
	if err != nil {
		return exit(err)
	}
	debug, err := client.Debug(ctx)
	if err != nil {
		return exit(err)
	}
	files := o.collect(ctx, client, status, debug, watched)
	redactor := bundle.NewRedactor(bundle.Mode(o.redact), knownOf(status))
	for i := range files {
		files[i].Text = redactor.Text(files[i].Text)
	}
	contents := bundle.Contents(bundle.Mode(o.redact), files)
	now := time.Now()
	folder := "wattle-debug-" + now.UTC().Format("20060102T150405Z")
	path := cmp.Or(o.file, folder+".tar.gz")
	all := append([]bundle.File{{Name: "CONTENTS.txt", Text: contents}}, files...)
	if err := writeBundle(path, folder, now, all); err != nil {
		return err
	}
	document := packed{Schema: "wattle.bundle/v1", File: path, Redact: o.redact}
	for _, file := range files {
		document.Parts = append(document.Parts, packedPart{file.Name, len(file.Text), file.What})
	}
	return o.form.print(command.OutOrStdout(), document, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n%s was written; look at it before you pass it on.\n", contents, path)
		return err
	})
}

// writeBundle never writes over a file.
func writeBundle(path, folder string, at time.Time, files []bundle.File) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return fmt.Errorf("write the bundle: %w; name another file with --output", err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	return bundle.Write(file, folder, at, files)
}

// captureStatus logs everything for a while and returns the status of each
// change, one line each.
func captureStatus(ctx context.Context, client *local.Client, span time.Duration) (string, error) {
	before, err := client.Debug(ctx)
	if err != nil {
		return "", err
	}
	if err := client.SetLevel(ctx, local.LevelRequest{Level: "debug"}); err != nil {
		return "", err
	}
	defer func() {
		// Also when the user has interrupted it.
		_ = client.SetLevel(context.WithoutCancel(ctx), local.LevelRequest{Level: before.Level})
	}()
	limited, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	text := &strings.Builder{}
	lines := json.NewEncoder(text)
	err = client.WatchStatus(limited, func(status local.Status) error { return lines.Encode(status) })
	if ctx.Err() == nil && limited.Err() != nil {
		err = nil // the time is over
	}
	return text.String(), err
}

// collect gathers the parts; what cannot be had says so in its place.
func (o *bundleOptions) collect(ctx context.Context, client *local.Client, status local.Status, debug local.Debug, watched string) []bundle.File {
	inJSON := func(document any, err error) string {
		if err != nil {
			return err.Error() + "\n"
		}
		text := &strings.Builder{}
		if err := printJSON(text, document); err != nil {
			return err.Error() + "\n"
		}
		return text.String()
	}
	settings, settingsErr := client.Settings(ctx)
	limited, cancel := context.WithTimeout(ctx, netcheckPatience)
	defer cancel()
	report, reportErr := client.Netcheck(limited, local.NetcheckRequest{})
	series := &strings.Builder{}
	_ = writeMetrics(series, status, true, time.Now()) // never fails on a builder
	files := []bundle.File{
		{Name: "status.json", What: "wattle status --json", Text: inJSON(status, nil)},
		{Name: "settings.json", What: "settings and where they come from", Text: inJSON(settings, settingsErr)},
		{Name: "netcheck.json", What: "what the network lets through", Text: inJSON(report, reportErr)},
		{Name: "rules.json", What: "rules in force and the machines that they name", Text: inJSON(map[string]any{"rules": debug.Rules, "sets": debug.Sets}, nil)},
		{Name: "metrics.txt", What: "wattle metrics --per-peer", Text: series.String()},
		{Name: "log.txt", What: "the newest lines of the daemon's log", Text: debug.Log},
		{Name: "goroutines.txt", What: "what the daemon was doing", Text: debug.Goroutines},
		{Name: "host.txt", What: "versions, interfaces, name servers", Text: hostFacts(status, debug)},
	}
	if o.capture > 0 {
		files = append(files, bundle.File{Name: "changes.ndjson", What: "the status at each change for " + o.capture.String(), Text: watched})
	}
	return files
}

// knownOf is what a redactor learns from a status.
func knownOf(status local.Status) bundle.Known {
	known := bundle.Known{
		PublicKeys: []string{status.PublicKey},
		Names:      []string{status.FQDN, status.Name, status.PeerID, status.AccountID, status.DNS.Domain, hostOf(status.Management.URL)},
	}
	if name, err := os.Hostname(); err == nil {
		known.Names = append(known.Names, name)
	}
	overlay := map[string]bool{}
	for _, address := range status.Addresses {
		overlay[address] = true
	}
	for _, p := range status.Peers {
		known.PublicKeys = append(known.PublicKeys, p.PublicKey)
		known.Names = append(known.Names, p.Name, p.ID)
		for _, address := range p.Addresses {
			overlay[address] = true
		}
	}
	for _, r := range status.Routes {
		known.Names = append(known.Names, append([]string{r.Name}, r.Domains...)...)
	}
	known.Overlay = func(addr netip.Addr) bool { return overlay[addr.String()] }
	return known
}

// hostOf is the host of a URL, empty when it has none.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}

// hostFacts tells of the machine around the daemon.
func hostFacts(status local.Status, debug local.Debug) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "command %s, daemon %s, server %s\n%s/%s, %s, memory of the daemon %s\n\ninterfaces\n",
		program.Version(), status.Version, cmp.Or(status.Management.Server, "unknown"), runtime.GOOS, runtime.GOARCH, runtime.Version(), size(debug.Memory))
	interfaces, err := net.Interfaces()
	if err != nil {
		fmt.Fprintf(text, "  %v\n", err)
	}
	for _, each := range interfaces {
		addresses, _ := each.Addrs() // the interface may have gone
		fmt.Fprintf(text, "  %s mtu %d %s %v\n", each.Name, each.MTU, each.Flags, addresses)
	}
	for _, path := range []string{"/etc/resolv.conf", "/proc/net/route", "/proc/net/ipv6_route", "/proc/sys/kernel/osrelease"} {
		if raw, err := os.ReadFile(path); err == nil { //nolint:gosec // one of the list
			fmt.Fprintf(text, "\n%s\n%s", path, raw)
		}
	}
	return text.String()
}
