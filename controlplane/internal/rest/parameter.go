package rest

import (
	"reflect"
	"regexp"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// The limits of query parameters in the contract (components/parameters).
const (
	maxLimit      = 1000
	maxIDs        = 200
	maxIDLength   = 64
	maxNameLength = 255
	maxCursor     = 512
	maxWait       = 300
)

var mapDigest = regexp.MustCompile(`^[0-9a-f]{32}$`)

// checkParameters checks the values of query parameters; their types are
// checked by the generated server.
func checkParameters(parameters reflect.Value) []problem.FieldError {
	var faults []problem.FieldError
	say := func(name, format string, args ...any) {
		faults = append(faults, problem.Field(name, format, args...))
	}
	if limit, given := parameter[int](parameters, "Limit"); given && (limit < 1 || limit > maxLimit) {
		say("limit", "must be 1 to %d, not %d", maxLimit, limit)
	}
	if name, given := parameter[string](parameters, "Name"); given && len([]rune(name)) > maxNameLength {
		say("name", "must have at most %d characters", maxNameLength)
	}
	if cursor, given := parameter[string](parameters, "Cursor"); given && len(cursor) > maxCursor {
		say("cursor", "is none that this server made")
	}
	if ids, given := parameter[[]string](parameters, "Ids"); given {
		if len(ids) > maxIDs {
			say("ids", "must have at most %d elements, not %d", maxIDs, len(ids))
		}
		for _, id := range ids {
			if len(id) > maxIDLength {
				say("ids", "has an element of more than %d characters", maxIDLength)
				break
			}
		}
	}
	if wait, given := parameter[int](parameters, "Wait"); given && (wait < 0 || wait > maxWait) {
		say("wait", "must be 0 to %d seconds, not %d", maxWait, wait)
	}
	if serial, given := parameter[int64](parameters, "Serial"); given && serial < 0 {
		say("serial", "must not be negative")
	}
	if digest, given := parameter[string](parameters, "Digest"); given && !mapDigest.MatchString(digest) {
		say("digest", "must be 32 hexadecimal digits")
	}
	return faults
}

// parameter returns an optional parameter by the name of its Go field.
func parameter[T any](parameters reflect.Value, name string) (value T, given bool) {
	field := parameters.FieldByName(name)
	if !field.IsValid() || field.Kind() != reflect.Pointer || field.IsNil() {
		return value, false
	}
	return reflect.TypeAssert[T](field.Elem())
}
