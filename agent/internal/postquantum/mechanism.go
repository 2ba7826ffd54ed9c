package postquantum

import (
	"crypto/mlkem"
	"errors"
	"fmt"
)

// A Mechanism makes a secret that two machines share and nobody else, by one
// message in each direction. ML-KEM is one; an exchange like that of Rosenpass
// would be another.
type Mechanism interface {
	// Name is what messages call it, of at most maximumName characters.
	Name() string

	// Offer returns the first message, and what opens the answer to it.
	Offer() (offer []byte, open func(answer []byte) (secret []byte, err error), err error)

	// Answer returns the secret and the second message. It fails for an offer that
	// is malformed.
	Answer(offer []byte) (secret, answer []byte, err error)
}

// MLKEM is ML-KEM-768 (FIPS 203): 1,184 bytes there and 1,088 back.
type MLKEM struct{}

var errAnswerSize = errors.New("ciphertext of ML-KEM-768 has not 1088 bytes")

// Name implements Mechanism.
func (MLKEM) Name() string { return "mlkem768" }

// Offer implements Mechanism.
func (MLKEM) Offer() ([]byte, func(answer []byte) ([]byte, error), error) {
	key, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, nil, fmt.Errorf("key of ML-KEM-768: %w", err)
	}
	open := func(answer []byte) ([]byte, error) {
		if len(answer) != mlkem.CiphertextSize768 {
			return nil, errAnswerSize
		}
		// A ciphertext that was changed gives another secret, not an error
		// (FIPS 203, section 6.3): its name tells.
		return key.Decapsulate(answer)
	}
	return key.EncapsulationKey().Bytes(), open, nil
}

// Answer implements Mechanism.
func (MLKEM) Answer(offer []byte) (secret, answer []byte, err error) {
	key, err := mlkem.NewEncapsulationKey768(offer)
	if err != nil {
		return nil, nil, fmt.Errorf("key of ML-KEM-768: %w", err)
	}
	secret, answer = key.Encapsulate()
	return secret, answer, nil
}
