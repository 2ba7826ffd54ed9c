// Package problem holds the errors that a caller of the API can tell apart.
//
// Every layer below the REST surface returns them as plain errors; the REST
// surface finds them with errors.As and renders each as an RFC 9457 problem.
// An error that is no Problem is a fault of the server and shows nothing of
// itself to the caller.
package problem

import (
	"fmt"
	"strings"
	"time"
)

// A Kind is the name of an error in the contract (x-problems in openapi.yaml).
type Kind string

// The kinds. Their HTTP status and title are in the contract.
const (
	KindMalformed       Kind = "malformed-request"
	KindInUse           Kind = "in-use"
	KindUnauthenticated Kind = "unauthenticated"
	KindClockSkew       Kind = "clock-skew"
	KindSetupKey        Kind = "invalid-setup-key"
	KindForbidden       Kind = "forbidden"
	KindNotFound        Kind = "not-found"
	KindPeerOffline     Kind = "peer-offline"
	KindMethod          Kind = "method-not-allowed"
	KindConflict        Kind = "conflict"
	KindPrecondition    Kind = "precondition-failed"
	KindSetupDone       Kind = "setup-done"
	KindSerial          Kind = "serial-conflict"
	KindLocked          Kind = "locked"
	KindTooLarge        Kind = "body-too-large"
	KindMediaType       Kind = "unsupported-media-type"
	KindInvalid         Kind = "invalid"
	KindRateLimited     Kind = "rate-limited"
	KindInternal        Kind = "internal"
	KindUnavailable     Kind = "unavailable"
)

// A Problem is an error with a kind, a subject and perhaps a cause.
type Problem struct {
	// Kind decides status and title.
	Kind Kind

	// Detail is one sentence for the caller: the cause, and where it helps
	// the next step. It holds no secret.
	Detail string

	// Errors names every fault of the request by its field. Empty when no
	// single field is at fault.
	Errors []FieldError

	// Referrers lists what still uses the object. Only for KindInUse and
	// KindPrecondition.
	Referrers []Referrer

	// Members stand in the body beside those of every problem (RFC 9457,
	// section 3.2); an object in JSON, nil for none. Only for KindLocked.
	Members any

	// Permission is the one that is missing. Only for KindForbidden.
	Permission string

	// RetryAfter tells when another attempt makes sense; zero sends no
	// Retry-After.
	RetryAfter time.Duration

	// Cause is logged and never sent. It may be nil.
	Cause error
}

// A FieldError is one fault of a request.
type FieldError struct {
	// Field is the path of the value, such as rules[1].ports[0].
	Field string

	// Detail says what is wrong and, where it helps, what is right.
	Detail string
}

// A Referrer is an object that uses another one.
type Referrer struct {
	// Type is the noun in the singular, as in a URL: policy, setup-key.
	Type string

	// ID and Name identify the object.
	ID, Name string

	// Field is where it names the other object, such as rules.sources.
	Field string
}

// Error returns the detail, and the cause if there is one: text for a log.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = string(p.Kind)
	}
	if p.Cause != nil {
		text += ": " + p.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Field makes one fault for Invalid.
func Field(field, format string, args ...any) FieldError {
	return FieldError{Field: field, Detail: fmt.Sprintf(format, args...)}
}

// NotFound says that the addressed object does not exist, or not for this
// caller. noun is lower case: "group", "setup key". Never use it for an unknown
// id inside a body: clients take the text "not found" as proof that the object
// they asked for is gone.
func NotFound(noun string) *Problem {
	return &Problem{Kind: KindNotFound, Detail: noun + " not found"}
}

// PeerOffline says that the other machine holds no stream at the moment.
func PeerOffline() *Problem {
	return &Problem{Kind: KindPeerOffline, Detail: "peer not found among the connected machines; it is offline"}
}

// Conflict says that the value of field is taken by another object.
func Conflict(noun, field, value string) *Problem {
	article := "a"
	if strings.ContainsRune("aeio", rune(noun[0])) {
		article = "an"
	}
	detail := fmt.Sprintf("%s %s with the %s %q exists already", article, noun, field, value)
	return &Problem{Kind: KindConflict, Detail: detail, Errors: []FieldError{{Field: field, Detail: "taken by another " + noun}}}
}

// Invalid says that a rule refuses values of the request; it takes all faults
// at once.
func Invalid(faults ...FieldError) *Problem {
	details := make([]string, len(faults))
	for i, fault := range faults {
		details[i] = fault.Detail
		if fault.Field != "" {
			details[i] = fault.Field + ": " + fault.Detail
		}
	}
	return &Problem{Kind: KindInvalid, Detail: strings.Join(details, "; "), Errors: faults}
}

// Malformed says that the request cannot be read: it is not JSON, has a wrong
// type, or lacks a list that must be there.
func Malformed(detail string, faults ...FieldError) *Problem {
	return &Problem{Kind: KindMalformed, Detail: detail, Errors: faults}
}

// InUse says that an object cannot be deleted, and names what uses it.
func InUse(noun, name string, referrers ...Referrer) *Problem {
	detail := fmt.Sprintf("%s %q has been linked to %s", noun, name, uses(referrers))
	if noun == "group" {
		// Existing clients search for this beginning.
		detail = "group has been linked to " + uses(referrers)
	}
	return &Problem{Kind: KindInUse, Detail: detail, Referrers: referrers}
}

// Precondition says that the object changed since it was read, or that another
// required condition does not hold.
func Precondition(detail string, referrers ...Referrer) *Problem {
	return &Problem{Kind: KindPrecondition, Detail: detail, Referrers: referrers}
}

// StillReferred is Precondition for an object that cannot be deleted while the
// referrers name it.
func StillReferred(noun, name string, referrers ...Referrer) *Problem {
	return Precondition(fmt.Sprintf("%s %q is named by %s; change that first", noun, name, uses(referrers)), referrers...)
}

func uses(referrers []Referrer) string {
	list := make([]string, len(referrers))
	for i, r := range referrers {
		list[i] = fmt.Sprintf("%s %q", strings.ReplaceAll(r.Type, "-", " "), r.Name)
	}
	return strings.Join(list, ", ")
}

// StaleVersion is Precondition for an If-Match that does not name the present
// version of the object.
func StaleVersion(noun string) *Problem {
	return Precondition("the " + noun + " changed since it was read; read it again and repeat the change")
}

// SetupDone says that the installation has its owner.
func SetupDone() *Problem {
	return &Problem{Kind: KindSetupDone, Detail: "this installation is set up already; sign in with the credentials that were made then"}
}

// SerialConflict says that a Terraform state does not follow the kept one.
func SerialConflict(detail string) *Problem {
	return &Problem{Kind: KindSerial, Detail: detail}
}

// Locked says that somebody else holds a lock; members tell who.
func Locked(detail string, members any) *Problem {
	return &Problem{Kind: KindLocked, Detail: detail, Members: members}
}

// TooLarge says that the body is larger than mebibytes allow. subject begins
// the sentence, such as "the body".
func TooLarge(subject string, mebibytes int) *Problem {
	return &Problem{Kind: KindTooLarge, Detail: fmt.Sprintf("%s may have at most %d MiB", subject, mebibytes)}
}

// Unauthenticated refuses credentials. kind is KindUnauthenticated,
// KindClockSkew or KindSetupKey.
func Unauthenticated(kind Kind, detail string) *Problem {
	return &Problem{Kind: kind, Detail: detail}
}

// Forbidden says that the role of the caller lacks a permission.
func Forbidden(permission string) *Problem {
	detail := "the role of these credentials lacks the permission " + permission
	return &Problem{Kind: KindForbidden, Detail: detail, Permission: permission}
}

// Denied says that a rule, not the lack of a permission, forbids the operation
// to this caller.
func Denied(detail string) *Problem {
	return &Problem{Kind: KindForbidden, Detail: detail}
}

// RateLimited says that the caller is over its rate and may come back after
// retryAfter.
func RateLimited(retryAfter time.Duration) *Problem {
	return &Problem{Kind: KindRateLimited, Detail: "too many requests; repeat the request after the time in Retry-After", RetryAfter: retryAfter}
}

// Unavailable says that the store or the server cannot answer at the moment.
func Unavailable(retryAfter time.Duration, cause error) *Problem {
	return &Problem{Kind: KindUnavailable, Detail: "the server cannot answer at the moment; repeat the request", RetryAfter: retryAfter, Cause: cause}
}

// Internal is a fault of the server; the caller sees only the request id.
func Internal(cause error) *Problem {
	return &Problem{Kind: KindInternal, Detail: "internal error", Cause: cause}
}
