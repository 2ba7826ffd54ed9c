package posture

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/generated/api"
)

// TestFault judges machines as they report themselves, in JSON as it comes from
// agents and from people.
func TestFault(t *testing.T) {
	const linux = `"os":"linux","kernel_version":"6.1.0-18-amd64","agent_version":"1.4.2"`
	for _, c := range []struct{ name, checks, facts, country, city, fault string }{
		{"nothing asked", `{}`, linux, "", "", ""},
		{"agent new enough", `{"nb_version_check":{"min_version":"1.4"}}`, linux, "", "", ""},
		{"agent exactly", `{"nb_version_check":{"min_version":"1.4.2"}}`, linux, "", "", ""},
		{"agent too old", `{"nb_version_check":{"min_version":"1.10"}}`, linux, "", "", "below 1.10"},
		{"candidate of the release", `{"nb_version_check":{"min_version":"1.4.2"}}`, `"agent_version":"v1.4.2-rc.1"`, "", "", "below 1.4.2"},
		{"later candidate", `{"nb_version_check":{"min_version":"1.4.2-rc.2"}}`, `"agent_version":"1.4.2-rc.10"`, "", "", ""},
		{"build of a release", `{"nb_version_check":{"min_version":"1.4.2"}}`, `"agent_version":"1.4.2+g123"`, "", "", ""},
		{"development build", `{"nb_version_check":{"min_version":"0.0.1"}}`, `"agent_version":"devel-0123abc"`, "", "", "no version"},
		{"kernel new enough", `{"os_version_check":{"linux":{"min_kernel_version":"6.1.0"}}}`, linux, "", "", ""},
		{"kernel with a flavour", `{"os_version_check":{"linux":{"min_kernel_version":"6.1.0-20"}}}`, linux, "", "", ""},
		{"kernel too old", `{"os_version_check":{"linux":{"min_kernel_version":"6.2"}}}`, linux, "", "", "below 6.2"},
		{"kernel untold", `{"os_version_check":{"linux":{"min_kernel_version":"1"}}}`, `"os":"linux"`, "", "", "no version"},
		{"another system", `{"os_version_check":{"darwin":{"min_version":"14"}}}`, linux, "", "", "not among"},
		{"macOS", `{"os_version_check":{"darwin":{"min_version":"14.2"}}}`, `"os":"darwin","kernel_version":"23.1","os_version":"14.2.1"`, "", "", ""},
		{"macOS that does not tell", `{"os_version_check":{"darwin":{"min_version":"14"}}}`, `"os":"darwin","kernel_version":"23.1"`, "", "", "no version"},
		{"windows", `{"os_version_check":{"windows":{"min_kernel_version":"10.0.19045"}}}`, `"os":"windows","kernel_version":"10.0.19045"`, "", "", ""},
		{"in the country", `{"geo_location_check":{"action":"allow","locations":[{"country_code":"DE"}]}}`, linux, "DE", "", ""},
		{"in another country", `{"geo_location_check":{"action":"allow","locations":[{"country_code":"DE"}]}}`, linux, "FR", "Paris", "in FR, Paris"},
		{"nowhere known", `{"geo_location_check":{"action":"deny","locations":[{"country_code":"DE"}]}}`, linux, "", "", "unknown"},
		{"in a denied country", `{"geo_location_check":{"action":"deny","locations":[{"country_code":"DE"}]}}`, linux, "DE", "", "in DE"},
		{"not in a denied country", `{"geo_location_check":{"action":"deny","locations":[{"country_code":"DE"}]}}`, linux, "FR", "", ""},
		{"in the city", `{"geo_location_check":{"action":"allow","locations":[{"country_code":"DE","city_name":"Berlin"}]}}`, linux, "DE", "berlin", ""},
		{"city untold, allowed only there", `{"geo_location_check":{"action":"allow","locations":[{"country_code":"DE","city_name":"Berlin"}]}}`, linux, "DE", "", "in DE"},
		{"city untold, denied there", `{"geo_location_check":{"action":"deny","locations":[{"country_code":"DE","city_name":"Berlin"}]}}`, linux, "DE", "", "city in DE is unknown"},
		{"another city than the denied one", `{"geo_location_check":{"action":"deny","locations":[{"country_code":"DE","city_name":"Berlin"}]}}`, linux, "DE", "Bonn", ""},
		{"in the range", `{"peer_network_range_check":{"action":"allow","ranges":["10.0.0.0/8","fd00::/8"]}}`, `"network_addresses":["192.168.1.2/24","10.1.2.3/16"]`, "", "", ""},
		{"in the range with IPv6", `{"peer_network_range_check":{"action":"allow","ranges":["10.0.0.0/8","fd00::/8"]}}`, `"network_addresses":["fd12::1/64"]`, "", "", ""},
		{"in no range", `{"peer_network_range_check":{"action":"allow","ranges":["10.0.0.0/8"]}}`, `"network_addresses":["192.168.1.2/24"]`, "", "", "none of its addresses"},
		{"in a denied range", `{"peer_network_range_check":{"action":"deny","ranges":["10.0.0.0/8"]}}`, `"network_addresses":["192.168.1.2/24","10.1.2.3/16"]`, "", "", "10.1.2.3"},
		{"in no denied range", `{"peer_network_range_check":{"action":"deny","ranges":["10.0.0.0/8"]}}`, `"network_addresses":["192.168.1.2/24"]`, "", "", ""},
		{"addresses untold", `{"peer_network_range_check":{"action":"deny","ranges":["10.0.0.0/8"]}}`, linux, "", "", "told no address"},
		{"addresses that cannot be read", `{"peer_network_range_check":{"action":"deny","ranges":["10.0.0.0/8"]}}`, `"network_addresses":["10.1.2"]`, "", "", "told no address"},
		{"program runs", `{"process_check":{"processes":[{"linux_path":"/bin/a","mac_path":"/b"}]}}`, linux + `,"running_processes":["/bin/a"]`, "", "", ""},
		{"program does not run", `{"process_check":{"processes":[{"linux_path":"/bin/a"},{"linux_path":"/bin/c"}]}}`, linux + `,"running_processes":["/bin/a"]`, "", "", "/bin/c does not run"},
		{"programs untold", `{"process_check":{"processes":[{"linux_path":"/bin/a"}]}}`, linux, "", "", "/bin/a does not run"},
		{"program of another system too", `{"process_check":{"processes":[{"linux_path":"/bin/a"},{"windows_path":"C:\\b.exe"}]}}`, linux + `,"running_processes":["/bin/a"]`, "", "", ""},
		{"programs of other systems only", `{"process_check":{"processes":[{"windows_path":"C:\\b.exe"}]}}`, linux + `,"running_processes":[]`, "", "", "no program has a path"},
		{"one of two checks", `{"nb_version_check":{"min_version":"1"},"process_check":{"processes":[{"linux_path":"/bin/a"}]}}`, linux, "", "", "/bin/a does not run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var checks api.PostureChecks
			var facts api.MachineFacts
			if err := json.Unmarshal([]byte(c.checks), &checks); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte("{"+c.facts+"}"), &facts); err != nil {
				t.Fatal(err)
			}
			got := Fault(checks, Machine{Facts: facts, Country: c.country, City: c.city})
			if (got == "") != (c.fault == "") || !strings.Contains(got, c.fault) {
				t.Errorf("got %q, want %q", got, c.fault)
			}
		})
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	list := []string{"0", "0.0.1-alpha", "0.0.1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1", "1.0.0.1", "1.2", "1.10", "10.0.19045"}
	for i, low := range list {
		a, known := parseVersion(low)
		if !known {
			t.Errorf("%s is no version", low)
		}
		for j, high := range list {
			if b, _ := parseVersion(high); a.below(b) != (i < j) {
				t.Errorf("%s below %s is %t", low, high, a.below(b))
			}
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, seed := range []string{"1.2.3", "v1.0.0-rc.1+b", "6.1.0-18-amd64", "devel", "", "-", "..", "99999999999999999999", "1.2.3.4.5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, ok := parseVersion(text)
		if v.below(v) {
			t.Errorf("%q comes before itself", text)
		}
		if ok && (text == "" || strings.Trim(text, "v0123456789") == text) {
			t.Errorf("%q is a version", text)
		}
	})
}
