package state

import (
	"context"
	"errors"

	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// ListCountries lists the countries that a location check may name.
func (s *State) ListCountries() []api.Country {
	items := make([]api.Country, len(geo.Countries))
	for i, c := range geo.Countries {
		items[i] = api.Country{CountryCode: c.Code, CountryName: c.Name}
	}
	return items
}

// GetCountry reads a country.
func (s *State) GetCountry(code string) (api.Country, error) {
	name := geo.CountryName(code)
	if name == "" {
		return api.Country{}, problem.NotFound("country")
	}
	return api.Country{CountryCode: code, CountryName: name}, nil
}

// ListCities lists the cities of a country that the geo database knows; a failed
// precondition without one.
func (s *State) ListCities(_ context.Context, code string) ([]api.City, error) {
	if _, err := s.GetCountry(code); err != nil {
		return nil, err
	}
	cities, err := s.cfg.Places.Cities(code)
	switch {
	case errors.Is(err, geo.ErrNoDatabase):
		return nil, problem.Precondition("the server has no geo database, which alone knows cities; start it with --geo-database")
	case err != nil:
		return nil, problem.Internal(err)
	}
	items := make([]api.City, len(cities))
	for i, c := range cities {
		items[i] = api.City{GeonameId: c.GeonameID, CityName: c.Name}
	}
	return items, nil
}
