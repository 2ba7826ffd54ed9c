package geo_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/geo/geotest"
)

var places = map[string]geo.Place{
	"192.0.2.0/25":    {Country: "DE", City: "Berlin", GeonameID: 2950159},
	"192.0.2.128/25":  {Country: "DE", City: "Bonn", GeonameID: 2946447},
	"198.51.100.0/24": {Country: "FR"},
	"2001:db8::/32":   {Country: "DE", City: "Berlin", GeonameID: 2950159},
}

func TestFind(t *testing.T) {
	database, err := geo.Open(geotest.Write(t, "Test-City", places))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]geo.Place{
		"192.0.2.1":        places["192.0.2.0/25"],
		"::ffff:192.0.2.1": places["192.0.2.0/25"],
		"2001:db8::7":      places["2001:db8::/32"],
		"198.51.100.9":     {Country: "FR", GeonameID: 7},
		"203.0.113.1":      {},
	} {
		if got := database.Find(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is in %+v, want %+v", address, got, want)
		}
	}
	if got := database.Find(netip.Addr{}); got != (geo.Place{}) {
		t.Errorf("no address is in %+v", got)
	}
	cities, err := database.Cities("DE")
	if diff := cmp.Diff([]geo.City{{2950159, "Berlin"}, {2946447, "Bonn"}}, cities); diff != "" || err != nil {
		t.Errorf("cities of DE (-want +got), error %v:\n%s", err, diff)
	}
	if cities, err := database.Cities("FR"); len(cities) > 0 || err != nil {
		t.Errorf("cities of FR are %v, error %v", cities, err)
	}
}

func TestWithoutADatabase(t *testing.T) {
	var none *geo.Database
	if got := none.Find(netip.MustParseAddr("192.0.2.1")); got != (geo.Place{}) {
		t.Errorf("without a database an address is in %+v", got)
	}
	if _, err := none.Cities("DE"); !errors.Is(err, geo.ErrNoDatabase) {
		t.Errorf("cities without a database: %v", err)
	}
}

func TestFilesThatAreNoDatabase(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.mmdb")
	if err := os.WriteFile(text, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		"/nowhere/places.mmdb":               "/nowhere/places.mmdb",
		text:                                 "MaxMind format",
		geotest.Write(t, "Test-ASN", places): "cities or countries",
	} {
		if _, err := geo.Open(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

func TestCountriesAreUniqueAndInOrder(t *testing.T) {
	if n := len(geo.Countries); n != 250 { // the 249 of ISO 3166-1, and Kosovo
		t.Errorf("%d countries", n)
	}
	last := ""
	for _, c := range geo.Countries {
		if len(c.Code) != 2 || c.Code <= last || c.Name == "" || geo.CountryName(c.Code) != c.Name {
			t.Errorf("country %+v behind %s", c, last)
		}
		last = c.Code
	}
}
