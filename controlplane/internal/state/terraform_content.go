package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
)

// MaxTerraformState is the largest Terraform state in bytes: some hundred
// thousand resources.
const MaxTerraformState = 64 << 20

// A terraformContent is a Terraform state as it came, and what its head says.
type terraformContent struct {
	raw     []byte
	digest  [sha256.Size]byte
	serial  int64
	lineage string
}

// readTerraformContent reads a state to its end and understands its head.
func readTerraformContent(from io.Reader) (terraformContent, error) {
	raw, err := io.ReadAll(io.LimitReader(from, MaxTerraformState+1))
	if err != nil {
		return terraformContent{}, problem.Malformed("the body could not be read to its end")
	}
	if len(raw) > MaxTerraformState {
		return terraformContent{}, problem.TooLarge("a Terraform state", MaxTerraformState>>20)
	}
	return parseTerraformContent(raw)
}

func parseTerraformContent(raw []byte) (c terraformContent, err error) {
	var head struct {
		Serial  *int64  `json:"serial"`
		Lineage *string `json:"lineage"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return c, problem.Malformed("the body is no Terraform state: it is not a JSON object with a serial")
	}
	if head.Serial == nil || head.Lineage == nil || *head.Serial < 0 || *head.Lineage == "" {
		return c, problem.Malformed("the body is no Terraform state: serial or lineage is missing")
	}
	return terraformContent{raw: raw, digest: sha256.Sum256(raw), serial: *head.Serial, lineage: *head.Lineage}, nil
}

// withSerial is the same state under another serial.
func (c terraformContent) withSerial(serial int64) (terraformContent, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(c.raw, &members); err != nil {
		return c, fmt.Errorf("read a kept Terraform state: %w", err)
	}
	members["serial"] = json.RawMessage(fmt.Sprint(serial))
	compact, err := json.Marshal(members)
	if err != nil {
		return c, fmt.Errorf("write a Terraform state: %w", err)
	}
	var raw bytes.Buffer
	if err := json.Indent(&raw, compact, "", "  "); err != nil { // as Terraform writes it
		return c, fmt.Errorf("write a Terraform state: %w", err)
	}
	return parseTerraformContent(append(raw.Bytes(), '\n'))
}

// A state compresses to a tenth. Both are safe for concurrent use.
var (
	compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2))
	})
	decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(MaxTerraformState+1))
	})
)

func contentPlace(id string) seal.Place {
	return seal.Place{Table: "terraform_state_content", Column: "sealed", Row: id}
}

// sealContent compresses and encrypts a state for the row of an id.
func (s *State) sealContent(id string, raw []byte) ([]byte, error) {
	encoder, err := compressor()
	if err != nil {
		return nil, fmt.Errorf("compress a Terraform state: %w", err)
	}
	return s.cfg.Keys.Seal(contentPlace(id), encoder.EncodeAll(raw, nil)), nil
}

func (s *State) openContent(id string, sealed []byte) ([]byte, error) {
	compressed, err := s.cfg.Keys.Open(contentPlace(id), sealed)
	if err != nil {
		return nil, fmt.Errorf("open a Terraform state: %w", err)
	}
	decoder, err := decompressor()
	if err != nil {
		return nil, fmt.Errorf("decompress a Terraform state: %w", err)
	}
	raw, err := decoder.DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress a Terraform state: %w", err)
	}
	return raw, nil
}
