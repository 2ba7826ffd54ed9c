package state

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// A page says which part of a list is wanted.
type page struct {
	ids    *[]string
	limit  *int
	cursor *string
}

// list returns the objects that fit, in the order of their creation, and the
// cursor of the next page; it is empty when this is the last. A cursor names the
// place of an object in that order, so it keeps its place while objects come
// and go.
func list[T, A any](o *ordered[T], page page, fits func(T) bool, show func(T) A) (items []A, next string, err error) {
	after, limit, err := page.bounds()
	if err != nil {
		return nil, "", err
	}
	var ids map[string]bool
	if page.ids != nil {
		ids = map[string]bool{}
		for _, id := range *page.ids {
			ids[id] = true
		}
	}
	items = []A{}
	start, _ := slices.BinarySearchFunc(o.order, after, func(p place, after int64) int {
		if p.seq <= after {
			return -1
		}
		return 1
	})
	last := int64(-1)
	for _, at := range o.order[start:] {
		v := o.byID[at.id]
		if ids != nil && !ids[at.id] || !fits(v) {
			continue
		}
		if limit > 0 && len(items) == limit {
			return items, encodeCursor(last), nil
		}
		items, last = append(items, show(v)), at.seq
	}
	return items, "", nil
}

func (p page) bounds() (after int64, limit int, err error) {
	after = -1
	if p.limit != nil {
		limit = *p.limit
		if limit < 1 || limit > 1000 {
			return 0, 0, problem.Invalid(problem.Field("limit", "must lie between 1 and 1000, not %d", limit))
		}
	}
	if p.cursor != nil && *p.cursor != "" {
		if after, err = decodeCursor(*p.cursor); err != nil {
			return 0, 0, err
		}
	}
	return after, limit, nil
}

func encodeCursor(n int64) string {
	return base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, n, 36))
}

func decodeCursor(text string) (int64, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	n, err2 := strconv.ParseInt(string(raw), 36, 64)
	if err != nil || err2 != nil || n < 0 {
		return 0, problem.Invalid(problem.Field("cursor", "is not a cursor of this server; begin the list again without it"))
	}
	return n, nil
}

func any1[T any](T) bool { return true }

// named fits objects with a name; every object when no name is asked for.
func named[T any](name *string, of func(T) string) func(T) bool {
	return func(v T) bool { return name == nil || of(v) == *name }
}

// faults makes a problem of what generated validation found and of further
// faults; nil when there are none.
func faults(generated []api.FieldError, more ...problem.FieldError) error {
	all := make([]problem.FieldError, 0, len(generated)+len(more))
	for _, f := range generated {
		all = append(all, problem.FieldError{Field: f.Field, Detail: f.Detail})
	}
	if all = append(all, more...); len(all) == 0 {
		return nil
	}
	return problem.Invalid(all...)
}

// together is one problem of what several checks of a request found, so that
// all of it can be mended at once. Of a field the first that refuses it is
// heard; an error that is not about a value of the request is told alone.
func together(checks ...error) error {
	var all []problem.FieldError
	said := map[string]bool{}
	for _, err := range checks {
		var p *problem.Problem
		switch {
		case err == nil:
			continue
		case !errors.As(err, &p) || p.Kind != problem.KindInvalid:
			return err
		}
		fresh := slices.DeleteFunc(slices.Clone(p.Errors), func(f problem.FieldError) bool { return said[f.Field] })
		for _, f := range fresh {
			said[f.Field] = true
		}
		all = append(all, fresh...)
	}
	return faults(nil, all...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
