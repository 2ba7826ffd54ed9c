package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/wattlenet/wattle/acceptance/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// TestQuickstart runs what `make quickstart` runs.
func TestQuickstart(t *testing.T) {
	bin := os.Getenv("WATTLE_BIN")
	if bin == "" {
		lab.Skip(t, "WATTLE_BIN does not name the folder of the programs; run make test")
	}
	terraform := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if terraform == "" {
		var err error
		if terraform, err = exec.LookPath("terraform"); err != nil {
			lab.Skip(t, err.Error())
		}
	}
	d := demonstration{bin: bin, terraform: terraform, example: "../../examples/quickstart"}
	if err := d.show(t.Context()); err != nil {
		t.Fatal(err)
	}
}
