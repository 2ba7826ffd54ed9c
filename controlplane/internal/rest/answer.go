package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// A requestBody is what the generated request types can do.
type requestBody interface {
	ApplyDefaults()
	Validate() []api.FieldError
}

// jsonType is the media type of every answer that is no problem.
const jsonType = "application/json; charset=UTF-8"

// unencoded marks responses that write themselves: the stream and the blobs.
type unencoded interface{ unencoded() }

// aroundOperation stands between the generated server and the operations: the
// values of the contract are checked before, versions and pages are told after.
func (s *Server) aroundOperation(next api.StrictHandlerFunc, operationID string) api.StrictHandlerFunc {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		if err := checkRequest(request); err != nil {
			return nil, err
		}
		if s.kept.steady[operationID] {
			answer, err := s.steadyAnswer(ctx, r, operationID, func() (encodedAnswer, error) {
				response, err := next(ctx, w, r, request)
				if err != nil {
					return encodedAnswer{}, err
				}
				return encodeAnswer(r, operationID, response)
			})
			if err != nil {
				return nil, err
			}
			sendAnswer(w, r, operationID, answer)
			return nil, nil
		}
		response, err := next(ctx, w, r, request)
		if err != nil {
			return nil, err
		}
		if _, ok := response.(unencoded); ok {
			return response, nil
		}
		answer, err := encodeAnswer(r, operationID, response)
		if err != nil {
			return nil, err
		}
		sendAnswer(w, r, operationID, answer)
		return nil, nil
	}
}

// absentStays holds the bodies whose absent fields keep the value that they have: nobody revives a revoked setup key, so
// a client that only sends groups must not be told that it tried.
var absentStays = map[reflect.Type]bool{reflect.TypeFor[*api.SetupKeyUpdate](): true}

// checkRequest applies the defaults of the contract to the body of a request
// and checks its values and parameters.
func checkRequest(request any) error {
	fields := reflect.ValueOf(request)
	if parameters := fields.FieldByName("Params"); parameters.IsValid() {
		checked, ok := reflect.TypeAssert[interface{ Validate() []api.FieldError }](parameters)
		if !ok {
			return fmt.Errorf("%T has parameters that cannot be checked", request)
		}
		if faults := checked.Validate(); len(faults) > 0 {
			return problem.Invalid(fieldErrors(faults)...)
		}
	}
	field := fields.FieldByName("Body")
	if !field.IsValid() {
		return nil
	}
	if field.IsNil() || field.Kind() == reflect.Interface {
		return nil // an optional body that did not come, or one that is no JSON value
	}
	body, ok := reflect.TypeAssert[requestBody](field)
	if !ok {
		return fmt.Errorf("%T has a body that cannot be checked", request)
	}
	if !absentStays[field.Type()] {
		body.ApplyDefaults()
	}
	if faults := body.Validate(); len(faults) > 0 {
		return problem.Invalid(fieldErrors(faults)...)
	}
	return nil
}

// An encodedAnswer is the answer of an operation as it is sent.
type encodedAnswer struct {
	body []byte
	tag  string // the ETag; empty for none
	next string // the cursor of the page after it; empty for none
	safe bool   // an equal ETag means an equal answer
}

// encodeAnswer encodes the answer of an operation with its ETag.
func encodeAnswer(r *http.Request, operationID string, response any) (encodedAnswer, error) {
	value := reflect.ValueOf(response)
	if value.Kind() == reflect.Slice && value.IsNil() {
		value = reflect.MakeSlice(value.Type(), 0, 0) // a list is never null
	}
	var body bytes.Buffer
	if err := encode(&body, r, value); err != nil {
		return encodedAnswer{}, err
	}
	return encodedAnswer{
		body: body.Bytes(), tag: entityTag(operationID, value, body.Bytes()), next: exchangeOf(r.Context()).next, safe: unchangedIsSafe(operationID, value),
	}, nil
}

// sendAnswer sends an answer. A GET whose caller holds the present version is
// answered without a body.
func sendAnswer(w http.ResponseWriter, r *http.Request, operationID string, answer encodedAnswer) {
	header := w.Header()
	if answer.next != "" {
		header.Set("Link", nextLink(r.URL, answer.next))
	}
	header.Set("Cache-Control", "no-cache")
	if secretAnswers[operationID] {
		header.Set("Cache-Control", "no-store")
	}
	if answer.tag != "" {
		header.Set("ETag", answer.tag)
	}
	if r.Method == http.MethodGet && answer.safe && tagMatches(r.Header.Get("If-None-Match"), answer.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", jsonType)
	header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer.body) // a caller that went away gets nothing more
}

func encode(body *bytes.Buffer, r *http.Request, value reflect.Value) error {
	if value.Kind() == reflect.Slice {
		wanted, err := wantedFields(r, value.Type().Elem())
		if err != nil {
			return err
		}
		if wanted != nil {
			return appendSparse(body, value, wanted)
		}
	}
	if err := json.NewEncoder(body).Encode(value.Interface()); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return nil
}

// versionMembers are the members that may hold the version of an object, the
// first one that is a number does.
var versionMembers = []struct{ field, wire string }{{"ObjectVersion", "object_version"}, {"Version", "version"}}

// entityTag returns the version of an object or the digest of a list, in the
// form of RFC 9110, section 8.8.3; "" for what has no version.
func entityTag(operationID string, value reflect.Value, body []byte) string {
	switch value.Kind() {
	case reflect.Slice:
		return `"` + digest(body) + `"`
	case reflect.Struct:
		for _, name := range versionMembers {
			if version := value.FieldByName(name.field); version.IsValid() && version.Kind() == reflect.Int64 {
				return objectTag(operationID, version.Int(), body)
			}
		}
	}
	return ""
}

// objectTag is the version of an object. Where the answer shows names of other
// objects their digest follows after a dot: with another name the ETag is
// another one, and as If-Match both are this version.
func objectTag(operationID string, version int64, body []byte) string {
	tag := strconv.FormatInt(version, 10)
	if operation, _ := api.OperationByID(operationID); operation.NamesOthers {
		tag += "." + digest(body)
	}
	return `"` + tag + `"`
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// unchangedIsSafe reports whether an equal ETag means an equal answer: that of
// a list is a digest of it, that of an object counts all its changes where the
// contract lets the operation take If-None-Match. For other objects, whose
// fields change by themselves, 304 would hide a change.
func unchangedIsSafe(operationID string, value reflect.Value) bool {
	operation, _ := api.OperationByID(operationID)
	return value.Kind() == reflect.Slice || operation.Conditional
}

// tagMatches compares weakly, as If-None-Match asks (RFC 9110, section 13.1.2).
func tagMatches(condition, tag string) bool {
	if tag == "" {
		return false
	}
	for candidate := range strings.SplitSeq(condition, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
			return true
		}
	}
	return false
}

// nextLink is the Link of RFC 8288 to the page that begins at cursor.
func nextLink(page *url.URL, cursor string) string {
	query := page.Query()
	query.Set("cursor", cursor)
	next := url.URL{Path: page.Path, RawPath: page.RawPath, RawQuery: query.Encode()}
	return "<" + next.String() + `>; rel="next"`
}
