package system

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// JournalFile is the usual name of the journal in the state folder.
const JournalFile = "dns.json"

// A record is what has to be put back.
type record struct {
	Kind Kind `json:"kind"`

	// Interface is the one that name servers were set for.
	Interface string `json:"interface"`

	// File is what a file was, for the kind File.
	File *backup `json:"file,omitempty"`

	// Servers are those that were set, and Global what NetworkManager had as a
	// whole, for the kind NetworkManager.
	Servers []netip.AddrPort `json:"servers,omitempty"`
	Global  *globalConfig    `json:"global,omitempty"`

	// Files are what files for single domains were, Folder the one that was made
	// for them, and Keys what stands in the dynamic store, for the kind Scutil.
	Files  []backup `json:"files,omitempty"`
	Folder string   `json:"folder,omitempty"`

	// Keys are also those of the registry that were made, and Values the values
	// of others that were set, for the kind NRPT.
	Keys   []string        `json:"keys,omitempty"`
	Values []registryValue `json:"values,omitempty"`
}

// A registryValue is what a value of the registry was.
type registryValue struct {
	Key  string `json:"key"`
	Name string `json:"name"`

	// Was is the text that was there; nil: none.
	Was *string `json:"was,omitempty"`
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

// journal is where what has to be put back stands, on disk before anything changes.
func (o Options) journal() journal.File[record] { return journal.File[record]{Path: o.Journal} }

// Undo puts back what an agent that has ended without doing so has set. It may
// run at any time while no agent with this journal does.
func Undo(ctx context.Context, o Options) error { return undoWith(ctx, o, undo) }

// undoWith puts back with undo what stands in a manager.
func undoWith(ctx context.Context, o Options, undo func(context.Context, record) error) error {
	entry, err := o.journal().Read()
	if err != nil || entry == nil {
		return err
	}
	was := entry.Was
	switch {
	case was.Kind == File && was.File != nil:
		// Also after a boot: a file stays.
		err = restore(*was.File, was.Interface)
	case slices.Contains([]Kind{NetworkManager, Scutil, NRPT}, was.Kind) || entry.ThisBoot:
		// These keep what they were told over a boot, the others do not.
		err = undo(ctx, was)
	}
	if err != nil {
		return fmt.Errorf("put the former name servers back: %w", err)
	}
	o.Logger.Info("former name servers put back", "kind", string(was.Kind), "interface", was.Interface)
	return o.journal().Forget()
}
