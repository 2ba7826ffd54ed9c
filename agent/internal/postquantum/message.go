package postquantum

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of what a peer may send. The box around it has at most 8 KiB.
const (
	maximumMechanisms = 8
	maximumName       = 32   // characters of a mechanism
	maximumText       = 2048 // bytes of an offer or an answer
	nameLength        = 32   // hexadecimal digits
)

var errMessage = errors.New("malformed message about post-quantum keys")

// A Message is all that its sender knows about the exchange, so the newest one
// replaces all before it: what is lost needs no repetition of its own, what is
// late is of no use. It travels sealed between the two machines.
//
//	A: {offer a}                       ->
//	                                   <-  {answer a, name s}        B knows s
//	A: {uses s}                        ->                            A uses s
//	                                   <-  {uses s, heard s}         B uses s
//	A: {uses s, heard s}, with whatever is sent next
//
// The secret has a name that only who has it can tell, so "uses" is the proof that
// both have the same.
type Message struct {
	// Mode is what the sender's account wants.
	Mode Mode `json:"mode"`

	// Can lists mechanisms, the sender's favourite first.
	Can []string `json:"can,omitempty"`

	// Uses names the secret that the sender's sessions with the receiver begin
	// with, and Heard the one that it has heard the receiver use; empty for none.
	Uses  string `json:"uses,omitempty"`
	Heard string `json:"heard,omitempty"`

	Offer  *Offer  `json:"offer,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
}

// An Offer is the first half of an exchange.
type Offer struct {
	ID        string `json:"id"` // random
	Mechanism string `json:"mechanism"`
	Text      []byte `json:"text"`
}

// An Answer is the second half.
type Answer struct {
	Offer string `json:"offer"` // id of the one that it answers
	Text  []byte `json:"text"`
	Name  string `json:"name"` // of the secret
}

// Check checks every bound, so that what follows may trust the lengths.
func (m *Message) Check() error {
	switch {
	case len(m.Can) > maximumMechanisms, slices.ContainsFunc(m.Can, func(name string) bool { return len(name) > maximumName }):
		return fmt.Errorf("%w: mechanisms", errMessage)
	case m.Uses != "" && !isName(m.Uses), m.Heard != "" && !isName(m.Heard):
		return fmt.Errorf("%w: name of a secret", errMessage)
	case m.Offer != nil && (!isName(m.Offer.ID) || len(m.Offer.Mechanism) > maximumName || len(m.Offer.Text) > maximumText):
		return fmt.Errorf("%w: offer", errMessage)
	case m.Answer != nil && (!isName(m.Answer.Offer) || !isName(m.Answer.Name) || len(m.Answer.Text) > maximumText):
		return fmt.Errorf("%w: answer", errMessage)
	}
	if !slices.Contains(modes, m.Mode) {
		m.Mode = Permissive // of a later release, which has its own idea of more
	}
	return nil
}

func isName(text string) bool {
	if len(text) != nameLength {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
