package rest

import (
	"context"

	"github.com/wattlenet/wattle/generated/api"
)

// ListCountries answers GET /api/locations/countries.
func (s *Server) ListCountries(context.Context, api.ListCountriesRequestObject) (api.ListCountriesResponseObject, error) {
	return api.ListCountries200JSONResponse(s.state.ListCountries()), nil
}

// GetCountry answers GET /api/locations/countries/{country_code}.
func (s *Server) GetCountry(_ context.Context, r api.GetCountryRequestObject) (api.GetCountryResponseObject, error) {
	country, err := s.state.GetCountry(r.CountryCode)
	return api.GetCountry200JSONResponse(country), err
}

// ListCities answers GET /api/locations/countries/{country_code}/cities.
func (s *Server) ListCities(ctx context.Context, r api.ListCitiesRequestObject) (api.ListCitiesResponseObject, error) {
	cities, err := s.state.ListCities(ctx, r.CountryCode)
	return api.ListCities200JSONResponse(cities), err
}
