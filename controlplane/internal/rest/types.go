package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// wrongTypes walks a JSON text beside the Go type that it shall be decoded
// into and reports every value of a wrong type with its path. encoding/json
// would stop at the first and not know the index of a list element.
func wrongTypes(raw []byte, t reflect.Type) []problem.FieldError {
	var faults []problem.FieldError
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] != '{' {
		return []problem.FieldError{{Detail: "must be an object"}}
	}
	walkTypes("", raw, t, &faults)
	return faults
}

func walkTypes(at string, raw json.RawMessage, t reflect.Type, faults *[]problem.FieldError) {
	for t.Kind() == reflect.Pointer || isNullable(t) {
		t = t.Elem()
	}
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" {
		return // whether a member may be null is another question
	}
	switch {
	case isLeaf(t):
		if json.Unmarshal(raw, reflect.New(t).Interface()) != nil {
			*faults = append(*faults, problem.Field(at, "must be %s", typeName(t)))
		}
	case t.Kind() == reflect.Struct:
		walkObject(at, raw, t, faults)
	case t.Kind() == reflect.Slice:
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			*faults = append(*faults, problem.Field(at, "must be a list"))
			return
		}
		for i, item := range items {
			walkTypes(fmt.Sprintf("%s[%d]", at, i), item, t.Elem(), faults)
		}
	}
}

func walkObject(at string, raw json.RawMessage, t reflect.Type, faults *[]problem.FieldError) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		*faults = append(*faults, problem.Field(at, "must be an object"))
		return
	}
	if at != "" {
		at += "."
	}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		// encoding/json takes a member of another case too.
		for key, value := range members {
			if strings.EqualFold(key, name) {
				walkTypes(at+key, value, field.Type, faults)
			}
		}
	}
	slices.SortStableFunc(*faults, func(a, b problem.FieldError) int { return strings.Compare(a.Field, b.Field) })
}

// isNullable recognises nullable.Nullable[T], a map from bool to T.
func isNullable(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Key().Kind() == reflect.Bool
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// isLeaf recognises types that decode a value as a whole.
func isLeaf(t reflect.Type) bool {
	switch {
	case reflect.PointerTo(t).Implements(unmarshaler):
		return true
	case t.Kind() == reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8 // base64
	default:
		return t.Kind() != reflect.Struct
	}
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a text in base64"
	case reflect.Map:
		return "an object"
	default:
		return "a " + strings.ToLower(t.Name())
	}
}
