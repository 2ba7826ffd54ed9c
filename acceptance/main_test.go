//go:build linux

package acceptance

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// binVariable names the folder of the programs.
const binVariable = "WATTLE_BIN"

// programs are the folders of the programs, by name.
var programs = map[string]string{
	"wattle":                    "agent",
	"wattle-server":             "controlplane",
	"wattle-relay":              "relay",
	"terraform-provider-wattle": "provider",
}

// terraform is the path of Terraform or OpenTofu, empty when neither is
// installed.
var terraform = findTerraform()

// together is how many stories run at the same time for each processor: most
// of a story is waiting.
const together = 2

func TestMain(m *testing.M) {
	flag.Parse()
	if err := moreTogether(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := withPrograms(func() int { return lab.Main(m.Run) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// moreTogether raises -test.parallel unless it was given.
func moreTogether() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(together*runtime.GOMAXPROCS(0)))
}

// withPrograms calls run while the folder in WATTLE_BIN holds the programs.
// Building happens outside the lab, where there is a network for modules.
func withPrograms(run func() int) (code int, err error) {
	if bin := os.Getenv(binVariable); bin != "" {
		if bin, err = filepath.Abs(bin); err != nil {
			return 1, err
		}
		if err := os.Setenv(binVariable, bin); err != nil {
			return 1, err
		}
		return run(), nil
	}
	bin, err := os.MkdirTemp("", "wattle-bin-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	for name, folder := range programs {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../"+folder)
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	if err := os.Setenv(binVariable, bin); err != nil {
		return 1, err
	}
	return run(), nil
}

func findTerraform() string {
	for _, name := range []string{os.Getenv("TF_ACC_TERRAFORM_PATH"), "terraform", "tofu"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
