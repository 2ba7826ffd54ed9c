package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// wantedFields returns the members that a request for a list asks for with
// ?fields=; none means all.
func wantedFields(r *http.Request, items reflect.Type) ([]string, error) {
	asked := strings.Join(r.URL.Query()["fields"], ",")
	if asked == "" || r.Method != http.MethodGet || items.Kind() != reflect.Struct {
		return nil, nil
	}
	var known []string
	for field := range items.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known = append(known, name)
	}
	wanted := strings.Split(asked, ",")
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return nil, problem.Invalid(problem.Field("fields", "%q is no field of the list; it has %s", shortened(name), strings.Join(known, ", ")))
		}
	}
	return wanted, nil
}

// shortened keeps what a caller sent from filling an answer.
func shortened(text string) string {
	if runes := []rune(text); len(runes) > 64 {
		return string(runes[:64]) + "…"
	}
	return text
}

// appendSparse encodes a list with some members of its items only.
func appendSparse(body *bytes.Buffer, list reflect.Value, wanted []string) error {
	body.WriteByte('[')
	for i := range list.Len() {
		if i > 0 {
			body.WriteByte(',')
		}
		if err := appendSome(body, list.Index(i), wanted); err != nil {
			return err
		}
	}
	body.WriteString("]\n")
	return nil
}

func appendSome(body *bytes.Buffer, item reflect.Value, wanted []string) error {
	separator := byte('{')
	for field, value := range item.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !slices.Contains(wanted, name) || strings.Contains(options, "omitempty") && isEmpty(value) {
			continue
		}
		text, err := json.Marshal(value.Interface())
		if err != nil {
			return err
		}
		body.WriteByte(separator)
		body.WriteString(`"` + name + `":`)
		body.Write(text)
		separator = ','
	}
	if separator == '{' {
		body.WriteByte('{')
	}
	body.WriteByte('}')
	return nil
}

// isEmpty is what encoding/json leaves out with omitempty.
func isEmpty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return value.Len() == 0
	case reflect.Struct:
		return false
	default:
		return value.IsZero()
	}
}
