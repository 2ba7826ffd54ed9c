package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/service"
	"github.com/wattlenet/wattle/internal/program"
)

func newService() *cobra.Command {
	command := group("service", "Have the service manager of this machine run the daemon")
	command.AddCommand(
		newServiceChange("install", "Start the daemon now and whenever the machine boots",
			"Start the daemon now and whenever the machine boots: as a unit of systemd with a user and\n"+
				"capabilities of its own, as a job of launchd (macOS), by rc.d (FreeBSD), or as a service\n"+
				"of Windows. It starts the program that is run here, so put that where it shall stay first.", service.Install),
		newServiceChange("remove", "Stop the daemon and take what install wrote away",
			"Stop the daemon, which puts the host back, and take what install wrote away. The machine\n"+
				"stays in its network until `wattle logout`.", service.Remove),
		newServiceShow(),
	)
	return command
}

// newServiceChange makes a command that changes what runs the daemon.
func newServiceChange(name, short, long string, do func(ctx context.Context, program, root string) error) *cobra.Command {
	var root string
	command := &cobra.Command{
		Use: name, Short: short, Long: long, Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			self, err := itself()
			if err != nil {
				return err
			}
			return do(command.Context(), self, root)
		},
	}
	command.Flags().StringVar(&root, "root", "", "root of another machine, such as an image: files alone, nothing is started or stopped")
	return command
}

func newServiceShow() *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use: "show", Short: "Print the files that install writes", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			self, err := itself()
			if err != nil {
				return err
			}
			files, err := service.Files(self)
			if err != nil {
				return err
			}
			shown := shownService{Schema: "wattle.service/v1", Files: []serviceFile{}}
			for _, file := range files {
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

// itself is the path of this program.
func itself() (string, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return self, nil
}
