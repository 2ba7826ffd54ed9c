package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// postureBody is what the store keeps of a posture check besides its name.
type postureBody struct {
	Description string            `json:"description,omitempty"`
	Checks      api.PostureChecks `json:"checks"`
}

// postureChecks is the noun of what machines must be like.
var postureChecks = &noun[postureBody, api.PostureCheck]{
	kind: store.KindPostureCheck, title: "posture check",
	creating: api.PermissionPostureChecksCreate, changing: api.PermissionPostureChecksUpdate, deleting: api.PermissionPostureChecksDelete,
	in:       func(a *account) *ordered[object[postureBody]] { return &a.postureChecks },
	unique:   func(name string, _ postureBody) (field, value string) { return "name", name },
	show:     func(_ *account, c object[postureBody]) api.PostureCheck { return showPostureCheck(c) },
	compiled: (*account).compiledCheck,
	gone: func(a *account, c object[postureBody]) []netmap.Change {
		delete(a.meets, c.ID)
		return []netmap.Change{netmap.CheckRemove{ID: c.ID}}
	},
}

func showPostureCheck(c object[postureBody]) api.PostureCheck {
	shown := api.PostureCheck{Id: c.ID, Name: c.Name, Checks: c.Body.Checks, Version: c.Version}
	if c.Body.Description != "" {
		shown.Description = &c.Body.Description
	}
	return shown
}

// ListPostureChecks lists the posture checks.
func (s *State) ListPostureChecks(_ context.Context, p auth.Principal, params api.ListPostureChecksParams) ([]api.PostureCheck, string, error) {
	return postureChecks.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[postureBody](params.Name))
}

// GetPostureCheck reads a posture check.
func (s *State) GetPostureCheck(_ context.Context, p auth.Principal, id string) (api.PostureCheck, error) {
	return postureChecks.get(s, p, "", id)
}

// CreatePostureCheck creates a posture check. A taken name is a conflict.
func (s *State) CreatePostureCheck(ctx context.Context, p auth.Principal, req api.PostureCheckRequest) (answer api.PostureCheck, err error) {
	req.ApplyDefaults()
	body, err := s.newPostureBody(req)
	if err != nil {
		return answer, err
	}
	return postureChecks.create(ctx, s, p, func(w *write) (string, postureBody, error) { return req.Name, body, s.keepFacts(w) })
}

// UpdatePostureCheck replaces a posture check and judges every machine anew.
func (s *State) UpdatePostureCheck(ctx context.Context, p auth.Principal, id string, req api.PostureCheckRequest, ifMatch string) (api.PostureCheck, error) {
	req.ApplyDefaults()
	return postureChecks.update(ctx, s, p, "", id, ifMatch, func(w *write, _ object[postureBody]) (string, postureBody, error) {
		body, err := s.newPostureBody(req)
		if err != nil {
			return "", body, err
		}
		return req.Name, body, s.keepFacts(w)
	})
}

// DeletePostureCheck removes a posture check that no policy names.
func (s *State) DeletePostureCheck(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return postureChecks.delete(ctx, s, p, "", id, ifMatch, nil)
}

// ListPostureCheckReferrers lists what names a posture check: what a refused deletion tells.
func (s *State) ListPostureCheckReferrers(ctx context.Context, p auth.Principal, id string) ([]api.Referrer, error) {
	return s.listReferrers(ctx, p, store.KindPostureCheck, id, func(a *account) error {
		if _, ok := a.postureChecks.get(id); !ok {
			return problem.NotFound(postureChecks.title)
		}
		return nil
	})
}

// newPostureBody checks a request and turns it into what is kept. Request and
// answer have the same members; what is null in the one is absent in the other.
func (s *State) newPostureBody(req api.PostureCheckRequest) (body postureBody, err error) {
	if err := faults(req.Validate(), checkPosture(req.Checks)...); err != nil {
		return body, err
	}
	text, err := json.Marshal(req.Checks)
	if err != nil {
		return body, err
	}
	body.Description = *req.Description
	if err = json.Unmarshal(text, &body.Checks); err != nil {
		return body, err
	}
	if body.Checks.GeoLocationCheck != nil && s.cfg.Places == nil {
		s.cfg.Logger.Warn("no machine meets a location check while there is no geo database; start the server with --geo-database", "posture_check", req.Name)
	}
	return body, nil
}

// checkPosture finds what the contract's own validation cannot see.
func checkPosture(checks api.PostureChecksRequest) (wrong []problem.FieldError) {
	if places, err := checks.GeoLocationCheck.Get(); err == nil {
		for i, place := range places.Locations {
			at := fmt.Sprintf("checks.geo_location_check.locations[%d]", i)
			if geo.CountryName(place.CountryCode) == "" {
				wrong = append(wrong, problem.Field(at+".country_code", "unknown country code %q; GET /api/locations/countries lists them", place.CountryCode))
			}
			wrong = append(wrong, repeated(at, places.Locations[:i], place)...)
		}
	}
	if programs, err := checks.ProcessCheck.Get(); err == nil {
		for i, program := range programs.Processes {
			wrong = append(wrong, repeated(fmt.Sprintf("checks.process_check.processes[%d]", i), programs.Processes[:i], program)...)
		}
	}
	return wrong
}

// repeated refuses an element that stands before already. Elements are compared
// by what they say.
func repeated[T any](at string, before []T, v T) []problem.FieldError {
	said := func(v T) string {
		text, _ := json.Marshal(v) // values of the contract encode
		return string(text)
	}
	if slices.ContainsFunc(before, func(o T) bool { return said(o) == said(v) }) {
		return []problem.FieldError{problem.Field(at, "occurs twice")}
	}
	return nil
}

// knownChecks finds the posture checks of a policy that do not exist.
func (w *write) knownChecks(ids []string) (wrong []problem.FieldError, err error) {
	rows, err := store.ObjectsByID(w.ctx, w.tx, w.account.ID, store.KindPostureCheck, ids)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if !slices.ContainsFunc(rows, func(row store.Object) bool { return row.ID == id }) {
			wrong = append(wrong, problem.Field(fmt.Sprintf("source_posture_checks[%d]", i), "unknown posture check id %q", id))
		}
	}
	return wrong, nil
}
