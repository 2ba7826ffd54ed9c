// Package geotest writes small geo databases for tests.
package geotest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/wattlenet/wattle/controlplane/internal/geo"
)

// Write writes a database of cities and returns its path. A place without a city
// is a country only.
func Write(t testing.TB, kind string, places map[string]geo.Place) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, place := range places {
		prefix := netip.MustParsePrefix(text)
		network := net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
		entry := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(place.Country), "geoname_id": mmdbtype.Uint32(7)}}
		if place.City != "" {
			entry["city"] = mmdbtype.Map{"geoname_id": mmdbtype.Uint32(uint32(place.GeonameID)), "names": mmdbtype.Map{"en": mmdbtype.String(place.City)}}
		}
		if err := tree.Insert(&network, entry); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "places.mmdb")
	file, err := os.Create(path) //nolint:gosec // in a folder of the test
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(file); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
