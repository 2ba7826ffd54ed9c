package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/service"
	"github.com/wattlenet/wattle/internal/program"
)

func newService() *cobra.Command {
	command := group("service", "Have the service manager of this machine run the daemon")
	command.AddCommand(
		newServicePlan("install", "Start the daemon now and whenever the machine boots",
			"Start the daemon now and whenever the machine boots: as a unit of systemd with a user and\n"+
				"capabilities of its own, as a job of launchd (macOS), or by rc.d (FreeBSD). It starts\n"+
				"the program that is run here, so put that where it shall stay first.", service.Plan.Install),
		newServicePlan("remove", "Stop the daemon and take what install wrote away",
			"Stop the daemon, which puts the host back, and take what install wrote away. The machine\n"+
				"stays in its network until `wattle logout`.", service.Plan.Remove),
		newServiceShow(),
	)
	return command
}

// newServicePlan makes a command that follows the plan of this machine.
func newServicePlan(name, short, long string, do func(service.Plan, context.Context, string, service.Runner) error) *cobra.Command {
	var root string
	command := &cobra.Command{
		Use: name, Short: short, Long: long, Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			plan, err := planHere()
			if err != nil {
				return err
			}
			if root == "" && runtime.GOOS == "linux" {
				if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
					return program.Exit(program.ExitFailed, "systemd does not run this machine; have its service manager start `wattle daemon`, or name the root of another machine with --root")
				}
			}
			return do(plan, command.Context(), root, service.Run)
		},
	}
	command.Flags().StringVar(&root, "root", "", "root of another machine, such as an image: files alone, nothing is started or stopped")
	return command
}

func newServiceShow() *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use: "show", Short: "Print the files that install writes", Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			plan, err := planHere()
			if err != nil {
				return err
			}
			shown := shownService{Schema: "wattle.service/v1"}
			for _, file := range plan.Files {
				shown.Files = append(shown.Files, serviceFile{Path: file.Path, Mode: fmt.Sprintf("%04o", file.Mode), Content: file.Content})
			}
			return out.print(command.OutOrStdout(), shown, func(w io.Writer) error {
				for _, file := range shown.Files {
					if _, err := fmt.Fprintf(w, "# %s\n%s\n", file.Path, file.Content); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	out = outputFlags(command)
	return command
}

// shownService is the document of `wattle service show`.
type shownService struct {
	Schema string        `json:"schema"`
	Files  []serviceFile `json:"files"`
}

// serviceFile is one file that a service manager reads; its mode is octal.
type serviceFile struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"`
	Content string `json:"content"`
}

// planHere is the plan for this machine and this program.
func planHere() (service.Plan, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return service.Plan{}, fmt.Errorf("find this program: %w", err)
	}
	return service.PlanFor(runtime.GOOS, self)
}
