package runtime

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/sdk"
)

// TestSettings: arguments come before the environment, the environment before
// the profile, and token and pin of a profile stay with its address.
func TestSettings(t *testing.T) {
	profile := sdk.Profile{URL: "https://home", Token: "wtp_home", CAPin: "sha256:aa"}
	s := types.StringValue
	for _, c := range []struct {
		name    string
		given   settings
		env     map[string]string
		profile bool
		url     string
		token   string
		pin     string
		fails   bool
	}{
		{"profile alone", settings{}, nil, true, "https://home", "wtp_home", "sha256:aa", false},
		{"nothing", settings{}, nil, false, "", "", "", true},
		{"arguments", settings{URL: s("https://away"), Token: s("wtp_x")}, nil, true, "https://away", "wtp_x", "", false},
		{"another address without a token", settings{URL: s("https://away")}, nil, true, "https://away", "", "", true},
		{"the profile's address with another token", settings{URL: s("https://home"), Token: s("wtp_x")}, nil, true, "https://home", "wtp_x", "sha256:aa", false},
		{"environment", settings{}, map[string]string{"WATTLE_URL": "https://env", "WATTLE_TOKEN": "wtp_e", "WATTLE_CA_PIN": "sha256:bb"}, true, "https://env", "wtp_e", "sha256:bb", false},
		{"argument over environment", settings{Token: s("wtp_x")}, map[string]string{"WATTLE_URL": "https://env", "WATTLE_TOKEN": "wtp_e"}, false, "https://env", "wtp_x", "", false},
		{"a profile that is asked for and not there", settings{Profile: s("/none/such"), URL: s("https://away"), Token: s("t")}, nil, true, "", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			if c.profile {
				if err := profile.Write(path); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"WATTLE_URL", "WATTLE_TOKEN", "WATTLE_ACCOUNT", "WATTLE_CA_PIN"} {
				t.Setenv(name, c.env[name])
			}
			t.Setenv("WATTLE_CREDENTIALS", path)
			if c.given.Profile.ValueString() == "" {
				c.given.Profile = types.StringNull()
			}
			got, err := c.given.client()
			if c.fails {
				if err == nil {
					t.Fatalf("config %+v, want an error", got)
				}
				return
			}
			if err != nil || got.URL != c.url || got.Token != c.token || got.CAPin != c.pin {
				t.Errorf("%s %s %s, %v; want %s %s %s", got.URL, got.Token, got.CAPin, err, c.url, c.token, c.pin)
			}
		})
	}
}
