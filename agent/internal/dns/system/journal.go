package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// JournalFile is the usual name of the journal in the state folder.
const JournalFile = "dns.json"

// A journal is what has to be put back, and on which boot it was set.
type journal struct {
	// Boot is the id of the boot; empty where the system has none.
	Boot string `json:"boot_id"`
	Kind Kind   `json:"kind"`

	// Interface is the one that name servers were set for.
	Interface string `json:"interface"`

	// File is what a file was, for the kind File.
	File *backup `json:"file,omitempty"`

	// Servers are those that were set, and Global what NetworkManager had as a
	// whole, for the kind NetworkManager.
	Servers []netip.AddrPort `json:"servers,omitempty"`
	Global  *globalConfig    `json:"global,omitempty"`
}

// A globalConfig is the DNS of NetworkManager as a whole. Without domains there
// is none, and that of the connections counts.
type globalConfig struct {
	Searches []string                `json:"searches,omitempty"`
	Options  []string                `json:"options,omitempty"`
	Domains  map[string]globalDomain `json:"domains,omitempty"`
}

// A globalDomain is the servers for a domain; "*" stands for every name.
type globalDomain struct {
	Servers []string `json:"servers,omitempty"`
	Options []string `json:"options,omitempty"`
}

// A backup is a file as it was.
type backup struct {
	Path string `json:"path"`

	// Target is where the path led as a symbolic link; empty for a file.
	Target string `json:"target,omitempty"`

	Mode    fs.FileMode `json:"mode"`
	Content string      `json:"content"`

	// Missing says that there was no file.
	Missing bool `json:"missing,omitempty"`
}

// bootFile tells one boot of Linux from another (random(4)).
const bootFile = "/proc/sys/kernel/random/boot_id"

func bootID() string {
	raw, err := os.ReadFile(bootFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// save writes the journal and returns when it is on disk.
func (j journal) save(path string) error {
	raw, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("remember the former name servers: %w", err)
	}
	if err := replaceFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("remember the former name servers: %w; nothing was changed", err)
	}
	return nil
}

// load returns the journal; found is false when there is nothing to put back.
func load(path string) (j journal, found bool, err error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the caller's own file
	if errors.Is(err, fs.ErrNotExist) {
		return j, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &j)
	}
	if err != nil {
		return j, false, fmt.Errorf("read what the name servers of this machine were: %w; look at %s, and at %s, then remove the former", err, path, resolvConf)
	}
	return j, true, nil
}

// forget removes the journal: nothing is to be put back.
func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the former name servers: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

// Undo puts back what an agent that has ended without doing so has set. It may
// run at any time while no agent with this journal does.
func Undo(ctx context.Context, o Options) error {
	j, found, err := load(o.Journal)
	if err != nil || !found {
		return err
	}
	switch {
	case j.Kind == File && j.File != nil:
		// Also after a boot: a file stays.
		err = restore(*j.File, j.Interface)
	case j.Kind == NetworkManager || j.Boot == bootID():
		// NetworkManager keeps what it was told over a boot, the others do not.
		err = undo(ctx, j)
	}
	if err != nil {
		return fmt.Errorf("put the former name servers back: %w", err)
	}
	o.Logger.Info("former name servers put back", "kind", string(j.Kind), "interface", j.Interface)
	return forget(o.Journal)
}

// replaceFile replaces a file as a whole or not at all, and returns when it is
// on disk.
func replaceFile(path string, content []byte, mode fs.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err == nil && runtime.GOOS != "windows" {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename last. Windows has no such thing.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(dir) //nolint:gosec // the folder of a file that was just written
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
