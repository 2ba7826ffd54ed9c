package start

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A Command runs an installation and tells the operator about it on out.
type Command func(ctx context.Context, config Config, out io.Writer) error

// Up sets up on the first start, then serves until ctx is done.
func Up(ctx context.Context, config Config, out io.Writer) error {
	return run(ctx, config, out, func(i *Installation) (string, error) {
		done, err := i.ensureOwner(ctx)
		return i.ready() + i.nextSteps(done), err
	})
}

// Serve serves until ctx is done and makes no owner.
func Serve(ctx context.Context, config Config, out io.Writer) error {
	return run(ctx, config, out, func(i *Installation) (string, error) {
		instance, err := i.State.GetInstance(ctx)
		if err != nil || !instance.SetupRequired {
			return i.ready(), err
		}
		return i.ready() + i.setupSteps(), nil
	})
}

// Setup sets up and returns. It changes nothing when that was done before.
func Setup(ctx context.Context, config Config, out io.Writer) (err error) {
	config.Relay, config.MetricsListen = false, "" // their ports may be taken by the server that runs later
	i, err := Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	done, err := i.ensureOwner(ctx)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, strings.TrimPrefix(i.nextSteps(done), "\n"))
	return err
}

func run(ctx context.Context, config Config, out io.Writer, prepare func(*Installation) (string, error)) error {
	i, err := Open(ctx, config)
	if err != nil {
		return err
	}
	text, err := prepare(i)
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	if err != nil {
		return errors.Join(err, i.Close())
	}
	return i.Run(ctx)
}

// ready is the line that scripts wait for: the listener is open.
func (i *Installation) ready() string {
	return fmt.Sprintf("wattle-server is ready: %s\n", i.public)
}

// setupSteps tells how an installation gets its owner over the API. The token
// is printed here and kept nowhere.
func (i *Installation) setupSteps() string {
	text := fmt.Sprintf("\nThis installation has no owner yet. Make one with POST %s/api/setup, or stop and run wattle-server setup.\n", i.public)
	if secret := i.setup.Reveal(); secret != "" {
		text += fmt.Sprintf("setup token      %s (send it as \"Authorization: Token ...\"; it ends with this process)\n", secret)
	}
	return text
}

// nextSteps tells the operator what was made and how to go on.
func (i *Installation) nextSteps(done firstStart) string {
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	place := done.profile
	switch _, err := os.Stat(place.path); {
	case done.newToken && place.occupied != "":
		say("\n%s belongs to another server and stays as it is.", place.occupied)
		say("credentials      %s", place.path)
		say("                 use them with WATTLE_CREDENTIALS=%s", place.path)
	case done.newToken:
		say("\ncredentials      %s (read by Terraform, SDK and command line)", place.path)
	case err == nil:
		say("\ncredentials      %s", place.path)
	default:
		say("\nThere are no credentials at %s; start once with --new-token to make some.", place.path)
	}
	if i.pin != "" {
		say("CA pin           %s", i.pin)
	}
	if done.authority != "" {
		say("CA certificate   %s (for programs that know no pin: curl --cacert, TF_HTTP_CLIENT_CA_CERTIFICATE_PEM)", done.authority)
	}
	if _, err := os.Stat(done.setupKey); err == nil {
		say("setup key        %s (reusable)", done.setupKey)
	}
	if done.fresh {
		pin := ""
		if i.pin != "" {
			pin = " --ca-pin " + i.pin
		}
		say("\nJoin a machine:  wattle up --management-url %s%s --setup-key-file %s", i.public, pin, done.setupKey)
		say("Declare the net: terraform init && terraform apply, with provider \"wattle\" {}")
	}
	return text.String()
}
