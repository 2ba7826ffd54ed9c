// Package bus carries hints and signals between the parts of a control plane, on one instance or several.
//
// Truth is never on the bus: a message may be lost, and whoever needs to be sure reads the store. Subjects are words
// joined by dots. Subscriptions name a subject exactly.
//
//	Publish ──> every subscription of the subject, none is fine
//	Request ──> the newest subscription of the subject, its reply comes back; none is ErrNoResponders at once
package bus

import (
	"context"
	"errors"
)

// MaxMessage is the largest message in bytes: a sealed signal of 8 KiB in its envelope fits.
const MaxMessage = 16 << 10

// The errors that every bus gives.
var (
	// ErrNoResponders says that nobody subscribes to the subject of a request.
	ErrNoResponders = errors.New("nobody listens on the subject")
	// ErrTooLarge says that a message is longer than MaxMessage.
	ErrTooLarge = errors.New("the message is larger than 16 KiB")
	// ErrSubject says that a subject is empty or holds a blank, a wildcard or an empty word.
	ErrSubject = errors.New("the subject is not words joined by dots")
	// ErrClosed says that the bus was closed.
	ErrClosed = errors.New("the bus is closed")
)

// A Handler takes one message and returns the reply, which counts for requests only. Messages of one sender come in the
// order in which they were sent, one at a time for each subscription. A handler must not block, must not keep data, and
// must not use the bus itself.
type Handler func(data []byte) (reply []byte)

// A Bus carries messages. It is safe for concurrent use.
type Bus interface {
	// Publish hands a message to every subscription of the subject, at most once each.
	Publish(ctx context.Context, subject string, data []byte) error
	// Request hands a message to one subscription of the subject and returns its reply.
	Request(ctx context.Context, subject string, data []byte) (reply []byte, err error)
	// Subscribe calls the handler for each message until cancel returns. cancel may be called twice.
	Subscribe(subject string, handler Handler) (cancel func(), err error)
	// Close ends all subscriptions. Everything else then returns ErrClosed.
	Close() error
}
