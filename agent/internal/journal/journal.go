// Package journal remembers what the agent has changed on the host until that is put back.
//
//	Write --> on disk --> change the host ... put back --> Forget
//	                          |
//	                          killed: Read tells the next start, `down` and
//	                          `wattle cleanup` what to put back
//
// What a boot puts back by itself is told apart by the id of the boot.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/wattlenet/wattle/internal/folder"
)

// A File is one journal; only its path must be set. Its holder calls one method at a time.
//
//	{"boot_id": "<id>", "was": ...}
type File[T any] struct {
	// Path is the file. It is there while something is to be put back.
	Path string
}

// An Entry is what has to be put back.
type Entry[T any] struct {
	Was T

	// ThisBoot says that the host was not started since. It also is true where
	// boots cannot be told apart.
	ThisBoot bool
}

type document[T any] struct {
	Boot string `json:"boot_id"` // empty where the system has none
	Was  T      `json:"was"`
}

// Write remembers was in the place of what was remembered before, and returns
// when it is on disk: only then may the host be changed. After an error the
// former content is still there.
func (f File[T]) Write(was T) error {
	raw, err := json.Marshal(document[T]{Boot: boot(), Was: was})
	if err == nil {
		err = folder.Replace(f.Path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("nothing was changed, since what this machine had before cannot be remembered: %w", err)
	}
	return nil
}

// Read returns what has to be put back, nil when there is nothing.
func (f File[T]) Read() (*Entry[T], error) {
	raw, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found document[T]
	if err == nil {
		err = json.Unmarshal(raw, &found)
	}
	if err != nil {
		return nil, fmt.Errorf("read what this machine had before: %w; put it back by hand, then remove %s", err, f.Path)
	}
	return &Entry[T]{Was: found.Was, ThisBoot: found.Boot == boot()}, nil
}

// Forget says that everything is put back.
func (f File[T]) Forget() error {
	if err := folder.Remove(f.Path); err != nil {
		return fmt.Errorf("forget what this machine had before: %w", err)
	}
	return nil
}

// bootFile tells one boot of Linux from another (random(4)).
const bootFile = "/proc/sys/kernel/random/boot_id"

func boot() string {
	raw, err := os.ReadFile(bootFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
