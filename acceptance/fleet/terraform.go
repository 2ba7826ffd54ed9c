package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// registry is the host in the provider's full address; nothing is asked of it, the mirror answers.
const registry = "registry.terraform.io"

// TerraformConfig says how Terraform runs. All fields are required.
type TerraformConfig struct {
	Program string // path of terraform or tofu
	Bin     string // folder of the built programs
	Dir     string // working folder with the .tf files
	On      Place
	Server  *Server
}

// Terraform is a working folder of Terraform with the built provider in a filesystem mirror.
type Terraform struct {
	config TerraformConfig
	env    []string
}

// NewTerraform makes the mirror and the command line configuration; `terraform init` needs no network then.
func NewTerraform(c TerraformConfig) (*Terraform, error) {
	host := registry
	if strings.Contains(filepath.Base(c.Program), "tofu") {
		host = "registry.opentofu.org"
	}
	mirror := filepath.Join(c.Dir, ".mirror")
	folder := filepath.Join(mirror, host, "wattlenet", "wattle", "0.1.0", runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the provider mirror: %w", err)
	}
	provider, err := filepath.Abs(filepath.Join(c.Bin, "terraform-provider-wattle"))
	if err != nil {
		return nil, fmt.Errorf("find the provider: %w", err)
	}
	link := filepath.Join(folder, "terraform-provider-wattle_v0.1.0")
	if err := os.Symlink(provider, link); err != nil && !os.IsExist(err) {
		return nil, fmt.Errorf("link the provider into the mirror: %w", err)
	}
	rc := filepath.Join(c.Dir, ".terraformrc")
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n    include = [\"%s/wattlenet/*\"]\n  }\n  direct {\n    exclude = [\"%s/wattlenet/*\"]\n  }\n}\n", mirror, host, host)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration of Terraform: %w", err)
	}
	env := append(os.Environ(), "TF_CLI_CONFIG_FILE="+rc, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"WATTLE_CREDENTIALS="+c.Server.Profile)
	return &Terraform{config: c, env: env}, nil
}

// Setenv gives Terraform and its provider one more environment variable.
func (t *Terraform) Setenv(name, value string) { t.env = append(t.env, name+"="+value) }

// Run runs Terraform to its end and returns what it printed.
func (t *Terraform) Run(ctx context.Context, args ...string) (string, error) {
	return run(t.command(ctx, args))
}

func (t *Terraform) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := t.config.On.Command(ctx, t.config.Program, args...)
	cmd.Dir, cmd.Env = t.config.Dir, t.env
	return cmd
}

// Cost is what a run took: by the clock, and of the processors, the provider's part included.
type Cost struct{ Wall, CPU time.Duration }

// Measure runs Terraform to its end and returns what that cost.
func (t *Terraform) Measure(ctx context.Context, args ...string) (Cost, error) {
	cmd := t.command(ctx, args)
	begin := time.Now()
	_, err := run(cmd)
	cost := Cost{Wall: time.Since(begin)}
	if cmd.ProcessState != nil {
		cost.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return cost, err
}

// Copy puts the .tf files of from into the working folder dir.
func Copy(dir, from string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.tf"))
	if err != nil {
		return fmt.Errorf("list %s: %w", from, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read an example: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			return fmt.Errorf("copy an example: %w", err)
		}
	}
	return nil
}
