package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"gopkg.in/yaml.v3"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// TestCloudInit applies the example and reads the user data as a machine would.
func TestCloudInit(t *testing.T) {
	source, err := os.ReadFile("../examples/cloud-init/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	plane := controlplanetest.New(t)
	t.Setenv("TF_VAR_agent_url", "https://downloads.example.org/wattle")
	t.Setenv("TF_VAR_agent_sha256", strings.Repeat("0", 64))
	readable := func(wants ...string) resource.CheckResourceAttrWithFunc {
		return func(text string) error {
			var document map[string]any
			for _, want := range wants {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in\n%s", want, text)
				}
			}
			return yaml.Unmarshal([]byte(text), &document)
		}
	}
	apply(t, plane,
		resource.TestStep{Config: string(source), Check: resource.ComposeTestCheckFunc(
			resource.TestCheckResourceAttrWith("data.wattle_cloud_init.web", "user_data", readable("#cloud-config\n", "wtk_", "downloads.example.org", "web-1")),
			resource.TestCheckResourceAttr("data.wattle_cloud_init.web", "install", "binary"),
			resource.TestCheckResourceAttr("data.wattle_cloud_init.web", "management_url", controlplanetest.Issuer),
			resource.TestCheckResourceAttrWith("data.wattle_cloud_init.baked", "user_data", readable("/run/credentials/wattle-setup-key")),
		)},
		resource.TestStep{Config: string(source), PlanOnly: true},
	)
}

// TestCloudInitSaysWhereTheFaultIs: some faults before anything is asked, some
// by the server, each at its argument.
func TestCloudInitSaysWhereTheFaultIs(t *testing.T) {
	plane := controlplanetest.New(t)
	for name, c := range map[string]struct{ config, says string }{
		"no key":        {"install = \"none\"", `(?s)Set exactly one of setup_key, setup_key_file`},
		"two keys":      {"install = \"none\"\nsetup_key = \"a\"\nsetup_key_file = \"/b\"", `(?s)Set exactly one of setup_key, setup_key_file`},
		"no agent":      {"setup_key = \"a\"", `(?s)Cannot render cloud init.*Attribute agent_url: must say where`},
		"no such kind":  {"install = \"magic\"\nsetup_key = \"a\"", `(?s)install.*one of`},
		"hash of words": {"agent_url = \"https://a.example/b\"\nagent_sha256 = \"x\"\nsetup_key = \"a\"", `agent_sha256`},
	} {
		t.Run(name, func(t *testing.T) {
			config := "data \"wattle_cloud_init\" \"x\" {\n" + c.config + "\n}\n"
			apply(t, plane, resource.TestStep{Config: config, ExpectError: regexp.MustCompile(c.says)})
		})
	}
}
