package route

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errReadOnly is how the kernel refuses where /proc/sys cannot be written.
var errReadOnly error = unix.EROFS

// A journal is the file of the settings as they were before the agent changed them, written and synced before each
// change. It is empty when nothing is changed, and of no use after a reboot, which puts the settings back itself.
//
//	{"boot": "<id>", "settings": [{"name": "ipv4/conf/eth0/forwarding", "before": "0", "set": "1"}]}
type journal struct{ path string }

type journalFile struct {
	Boot     string    `json:"boot"`
	Settings []setting `json:"settings"`
}

func (j journal) write(list []setting) error {
	if len(list) == 0 {
		if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the journal of settings: %w", err)
		}
		return nil
	}
	raw, err := json.Marshal(journalFile{Boot: boot(), Settings: list})
	if err != nil {
		return fmt.Errorf("encode the journal of settings: %w", err)
	}
	next := j.path + ".new"
	file, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the path is of our own folder
	if err == nil {
		_, err = file.Write(raw)
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		return fmt.Errorf("write the journal of settings: %w; nothing was changed", err)
	}
	return nil
}

// read returns the settings to put back; a journal that cannot be read, or of another boot, names none.
func (j journal) read() ([]setting, error) {
	raw, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of settings: %w", err)
	}
	var found journalFile
	if err := json.Unmarshal(raw, &found); err != nil || found.Boot != boot() {
		return nil, j.write(nil)
	}
	for _, s := range found.Settings {
		if !filepath.IsLocal(s.Name) || strings.ContainsAny(s.Before+s.Set, "\x00\n") {
			return nil, j.write(nil) // nobody but us writes the file
		}
	}
	return found.Settings, nil
}

// boot names this run of the kernel; empty where it cannot be read.
func boot() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
