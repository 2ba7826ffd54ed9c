package postquantum

import (
	"bytes"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
)

// expand is RFC 5869 with SHA-256, for up to one block.
func expand(secret, salt []byte, info string, length int) []byte {
	if len(salt) == 0 {
		salt = make([]byte, sha256.Size)
	}
	extract := hmac.New(sha256.New, salt)
	extract.Write(secret)
	okm := hmac.New(sha256.New, extract.Sum(nil))
	okm.Write([]byte(info))
	okm.Write([]byte{1})
	return okm.Sum(nil)[:length]
}

func count(n int, from byte) []byte {
	list := make([]byte, n)
	for i := range list {
		list[i] = from + byte(i)
	}
	return list
}

// The vectors are of the standard library: an ML-KEM key of a known seed and a
// ciphertext of known randomness.
func TestSecretOfKnownKeys(t *testing.T) {
	key, err := mlkem.NewDecapsulationKey768(count(mlkem.SeedSize, 0))
	if err != nil {
		t.Fatal(err)
	}
	offer := key.EncapsulationKey().Bytes()
	shared, answer, err := mlkemtest.Encapsulate768(key.EncapsulationKey(), count(32, 100))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := key.Decapsulate(answer)
	if err != nil || !bytes.Equal(opened, shared) {
		t.Fatalf("the standard library does not agree with itself: %x and %x, %v", opened, shared, err)
	}
	s, err := newSecret("mlkem768", shared, offer, answer)
	if err != nil {
		t.Fatal(err)
	}
	one, other := [KeySize]byte(count(KeySize, 1)), [KeySize]byte(count(KeySize, 2))
	got, err := s.Key(one, other)
	if err != nil {
		t.Fatal(err)
	}

	transcript := sha256.Sum256(append(bytes.Clone(offer), answer...))
	secret := expand(shared, transcript[:], "wattle post-quantum secret v1 mlkem768", 32)
	if name := hex.EncodeToString(expand(secret, nil, "wattle post-quantum name v1", 16)); s.name != name {
		t.Errorf("name %s, want %s", s.name, name)
	}
	want := expand(secret, nil, "wattle post-quantum preshared key v1"+string(one[:])+string(other[:]), 32)
	if !bytes.Equal(got[:], want) {
		t.Errorf("key %x, want %x", got, want)
	}
	// What two machines of different releases must agree on.
	const name, preshared = "baec29f25a5a06c218a30e9c3f16858c", "90755b12f215895a34da2a7fda54fef299f9901feeba9a7b78dcebf15e3815d6"
	if s.name != name || hex.EncodeToString(got[:]) != preshared {
		t.Errorf("the derivation is another than that of former releases: name %s, key %x", s.name, got)
	}
}

func TestKeyIsBoundToBothEnds(t *testing.T) {
	s, err := newSecret("mlkem768", []byte("shared"), []byte("offer"), []byte("answer"))
	if err != nil {
		t.Fatal(err)
	}
	key := func(s *Secret, one, other byte) [KeySize]byte {
		t.Helper()
		k, err := s.Key([KeySize]byte{one}, [KeySize]byte{other})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	mine := key(s, 1, 2)
	if mine != key(s, 2, 1) {
		t.Error("the two ends derive different keys")
	}
	seen := map[[KeySize]byte]string{mine: "the pair"}
	for what, k := range map[string][KeySize]byte{"another peer": key(s, 1, 3), "another machine": key(s, 3, 2)} {
		if seen[k] != "" {
			t.Errorf("%s has the key of %s", what, seen[k])
		}
		seen[k] = what
	}
	for what, parts := range map[string][4]string{
		"another mechanism": {"other", "shared", "offer", "answer"}, "another offer": {"mlkem768", "shared", "0ffer", "answer"},
		"another answer": {"mlkem768", "shared", "offer", "4nswer"}, "another secret": {"mlkem768", "5hared", "offer", "answer"},
	} {
		o, err := newSecret(parts[0], []byte(parts[1]), []byte(parts[2]), []byte(parts[3]))
		if err != nil {
			t.Fatal(err)
		}
		if k := key(o, 1, 2); seen[k] != "" || o.name == s.name {
			t.Errorf("%s gives the key or the name of %s", what, seen[k])
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	s, err := newSecret("mlkem768", []byte("shared"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s)} {
		if text != "(secret)" {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestMechanism(t *testing.T) {
	for name, m := range map[string]Mechanism{"ML-KEM-768": MLKEM{}, "plain": plain{}} {
		t.Run(name, func(t *testing.T) { conforms(t, m) })
	}
}

// conforms is what an Exchange takes for granted of a mechanism.
func conforms(t *testing.T, m Mechanism) {
	t.Helper()
	if len(m.Name()) == 0 || len(m.Name()) > maximumName {
		t.Errorf("name %q", m.Name())
	}
	offer, open, err := m.Offer()
	if err != nil || len(offer) > maximumText {
		t.Fatalf("an offer of %d bytes, %v", len(offer), err)
	}
	secret, answer, err := m.Answer(offer)
	if err != nil || len(answer) > maximumText {
		t.Fatalf("an answer of %d bytes, %v", len(answer), err)
	}
	opened, err := open(answer)
	if err != nil || !bytes.Equal(opened, secret) || len(secret) < 16 {
		t.Errorf("%d and %d bytes of secret, equal %t, %v", len(secret), len(opened), bytes.Equal(opened, secret), err)
	}
	again, _, err := m.Offer()
	if err != nil || bytes.Equal(again, offer) {
		t.Errorf("two offers are alike, %v", err)
	}
	if opened, err := open(answer[1:]); err == nil && bytes.Equal(opened, secret) {
		t.Error("half an answer will do")
	}
	other := bytes.Clone(answer)
	other[len(other)-1] ^= 1
	if opened, err := open(other); err == nil && bytes.Equal(opened, secret) {
		t.Error("a changed answer gives the same secret")
	}
	for _, bad := range [][]byte{nil, offer[1:], append(bytes.Clone(offer), 0)} {
		if _, _, err := m.Answer(bad); err == nil {
			t.Errorf("an offer of %d bytes was answered", len(bad))
		}
	}
}

// FuzzMechanism: whatever arrives, there is an error or a secret of a fixed size.
func FuzzMechanism(f *testing.F) {
	offer, open, err := MLKEM{}.Offer()
	if err != nil {
		f.Fatal(err)
	}
	_, answer, err := MLKEM{}.Answer(offer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(offer, answer)
	f.Add([]byte{}, []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, len(offer)), bytes.Repeat([]byte{0xff}, len(answer)))
	f.Fuzz(func(t *testing.T, offer, answer []byte) {
		if secret, text, err := (MLKEM{}).Answer(offer); err == nil && (len(secret) != mlkem.SharedKeySize || len(text) != mlkem.CiphertextSize768) {
			t.Errorf("%d bytes of secret, %d of answer", len(secret), len(text))
		}
		if secret, err := open(answer); err == nil && len(secret) != mlkem.SharedKeySize {
			t.Errorf("%d bytes of secret", len(secret))
		}
	})
}
