// Package geo tells in which country and city an address is, from a database
// in the MaxMind format that the user supplies.
package geo

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"
)

// A Place is where an address is. The zero value says that nobody knows.
type Place struct {
	// Country is the ISO 3166-1 alpha-2 code.
	Country string
	// City is its English name; empty when the database does not tell.
	City string
	// GeonameID is the number of the city, else of the country, at geonames.org.
	GeonameID int
}

// A City is a city that a database knows.
type City struct {
	GeonameID int
	Name      string
}

// A Database tells where addresses are. A nil Database knows nothing. It is safe
// for concurrent use.
type Database struct {
	reader *maxminddb.Reader

	once   sync.Once // guards cities and err: the whole file is read at the first question
	cities map[string][]City
	err    error
}

// record is the part of an entry that is of interest.
type record struct {
	City    named `maxminddb:"city"`
	Country struct {
		named
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
}

type named struct {
	GeonameID uint `maxminddb:"geoname_id"`
	Names     struct {
		English string `maxminddb:"en"`
	} `maxminddb:"names"`
}

// Open reads a database of countries or of cities. It stays in memory, so the
// file may be replaced; a newer one is read at the next start. The error names
// the file and what is wrong with it.
func Open(path string) (*Database, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read geo database: %w", err)
	}
	reader, err := maxminddb.OpenBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("geo database %s is not in the MaxMind format (.mmdb): %w", path, err)
	}
	if kind := reader.Metadata.DatabaseType; !strings.Contains(kind, "City") && !strings.Contains(kind, "Country") {
		return nil, fmt.Errorf("geo database %s is of the type %q; give one of cities or countries", path, kind)
	}
	return &Database{reader: reader}, nil
}

// Find returns where an address is; the zero Place when the database does not
// tell.
func (d *Database) Find(address netip.Addr) Place {
	if d == nil || !address.IsValid() {
		return Place{}
	}
	var found record
	if err := d.reader.Lookup(address.Unmap()).Decode(&found); err != nil {
		return Place{} // an entry of another form tells no place
	}
	return Place{
		Country: found.Country.Code, City: found.City.Names.English,
		GeonameID: int(cmp.Or(found.City.GeonameID, found.Country.GeonameID)),
	}
}

// ErrNoDatabase says that there is no database to look into.
var ErrNoDatabase = errors.New("there is no geo database")

// Cities returns the cities of a country by their names. The first call reads
// the whole database.
func (d *Database) Cities(country string) ([]City, error) {
	if d == nil {
		return nil, ErrNoDatabase
	}
	d.once.Do(func() { d.cities, d.err = d.read() })
	return d.cities[country], d.err
}

func (d *Database) read() (map[string][]City, error) {
	seen := map[string]map[City]bool{}
	for entry := range d.reader.Networks() {
		var found record
		if err := entry.Decode(&found); err != nil {
			return nil, fmt.Errorf("read geo database: %w", err)
		}
		city := City{GeonameID: int(found.City.GeonameID), Name: found.City.Names.English}
		if city.Name == "" {
			continue
		}
		if seen[found.Country.Code] == nil {
			seen[found.Country.Code] = map[City]bool{}
		}
		seen[found.Country.Code][city] = true
	}
	cities := map[string][]City{}
	for country, set := range seen {
		for city := range set {
			cities[country] = append(cities[country], city)
		}
		slices.SortFunc(cities[country], func(a, b City) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.GeonameID, b.GeonameID))
		})
	}
	return cities, nil
}
