package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/wattlenet/wattle/agent/internal/journal"
	"github.com/wattlenet/wattle/internal/folder"
)

// namePort is the port of name servers that nobody has to name.
const namePort = 53

// A macOS sets the name servers of macOS: for every name and for search domains in
// the dynamic store, and for other domains in a file each (resolver(5)).
//
//	/etc/resolver/corp.example.org   names below it are asked of us
type macOS struct {
	logger  *slog.Logger
	store   scutil
	folder  string
	path    string // of resolv.conf, which the system writes anew in another network
	journal journal.File[record]

	mu     sync.Mutex // guards all below
	set    Config
	was    record // what has to be put back, as in the journal
	former Former
}

// newMacOS returns the Setter if the program scutil is there.
func newMacOS(ctx context.Context, o Options, program, folder string) (*macOS, error) {
	if _, err := os.Stat(program); err != nil {
		return nil, errors.Join(errNoStore, err)
	}
	m := &macOS{logger: o.Logger, store: scutil{program}, folder: folder, path: o.path(), journal: o.journal()}
	var err error
	m.former, err = m.store.global(ctx)
	return m, err
}

// Set names our servers in the store and in files. What there was before is on
// disk until it is back.
func (m *macOS) Set(ctx context.Context, c Config) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.isZero() {
		return m.putBack(ctx)
	}
	if m.set.equal(c) {
		return nil
	}
	if m.was.Interface != "" && m.was.Interface != c.Interface {
		if err := m.putBack(ctx); err != nil { // what is ours is told by the name
			return err
		}
	}
	if err := m.apply(ctx, c); err != nil {
		return fmt.Errorf("set the name servers of this machine: %w; if that goes on, start the daemon with --dns off", err)
	}
	m.set = c
	return nil
}

// apply makes the machine ask as c says, and then puts back what c leaves out. The
// caller holds mu.
func (m *macOS) apply(ctx context.Context, c Config) error {
	files, err := m.files(c)
	if err != nil {
		return err
	}
	entries := storeEntries(c)
	if err := m.remember(c, files, entries); err != nil {
		return err
	}
	for path, text := range files {
		if held, err := readFile(path); err == nil && held == text {
			continue
		}
		if err := folder.Replace(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	wanted := func(key string) bool {
		return slices.ContainsFunc(entries, func(e storeEntry) bool { return e.key == key })
	}
	gone := slices.DeleteFunc(slices.Clone(m.was.Keys), wanted)
	if err := m.store.change(ctx, entries, gone); err != nil {
		return err
	}
	rest := record{Kind: Scutil, Interface: c.Interface, Folder: m.was.Folder, Keys: slices.DeleteFunc(slices.Clone(m.was.Keys), func(key string) bool { return !wanted(key) })}
	for _, file := range m.was.Files {
		if _, ok := files[file.Path]; ok {
			rest.Files = append(rest.Files, file)
		} else if err := restore(file, m.was.Interface); err != nil {
			return err
		}
	}
	if len(rest.Files) == len(m.was.Files) && len(rest.Keys) == len(m.was.Keys) {
		return nil
	}
	if err := m.journal.Write(rest); err != nil {
		return err
	}
	m.was = rest
	return nil
}

// files are the files for c by their paths: one for each domain that is not in
// the store.
func (m *macOS) files(c Config) (map[string]string, error) {
	port, servers := samePort(c.Servers)
	var text strings.Builder
	text.WriteString(mark + c.Interface + "; what was here comes back when it disconnects.\n")
	for _, server := range servers {
		text.WriteString("nameserver " + server + "\n")
	}
	if port != namePort {
		fmt.Fprintf(&text, "port %d\n", port)
	}
	files := map[string]string{}
	for _, domain := range c.Match {
		if slices.Contains(c.Search, domain) {
			continue
		}
		if domain == "." || domain != filepath.Base(domain) || !filepath.IsLocal(domain) {
			return nil, fmt.Errorf("the domain %q cannot be the name of a file in %s", domain, m.folder)
		}
		files[filepath.Join(m.folder, domain)] = text.String()
	}
	return files, nil
}

// remember writes to the journal what files and entries will replace, before they
// do. The caller holds mu.
func (m *macOS) remember(c Config, files map[string]string, entries []storeEntry) error {
	was := m.was
	was.Kind, was.Interface = Scutil, c.Interface
	was.Files, was.Keys = slices.Clone(was.Files), slices.Clone(was.Keys)
	for _, entry := range entries {
		if !slices.Contains(was.Keys, entry.key) {
			was.Keys = append(was.Keys, entry.key)
		}
	}
	for path := range files {
		if slices.ContainsFunc(was.Files, func(b backup) bool { return b.Path == path }) {
			continue
		}
		file, err := backupOfOthers(path, c.Interface)
		if err != nil {
			return err
		}
		was.Files = append(was.Files, file)
	}
	if _, err := os.Stat(m.folder); len(files) > 0 && errors.Is(err, fs.ErrNotExist) {
		was.Folder = m.folder
	}
	if err := m.journal.Write(was); err != nil {
		return err
	}
	m.was = was
	if was.Folder == "" || len(files) == 0 {
		return nil
	}
	return os.MkdirAll(was.Folder, 0o755) //nolint:gosec // every program reads it
}

// backupOfOthers reads what is at path, unless an agent that has ended left it:
// then nothing was there. It fails when another agent that runs has the file.
func backupOfOthers(path, name string) (backup, error) {
	b, err := takeBackup(path)
	if err != nil {
		return b, err
	}
	switch ours := parseFile(b.Content).ours; {
	case ours == "":
		return b, nil
	case ours != name:
		if _, err := net.InterfaceByName(ours); err == nil {
			return b, otherAgent(ours)
		}
	}
	return backup{Path: path, Mode: b.Mode, Missing: true}, nil
}

// putBack takes everything of ours away. The caller holds mu.
func (m *macOS) putBack(ctx context.Context) error {
	if m.was.Kind == "" {
		return nil
	}
	if err := undoMacOS(ctx, m.store.program, m.was); err != nil {
		return fmt.Errorf("put the former name servers back: %w", err)
	}
	m.set, m.was = Config{}, record{}
	return m.journal.Forget()
}

// undoMacOS puts back what stands in a journal of the kind Scutil.
func undoMacOS(ctx context.Context, program string, was record) error {
	faults := []error{scutil{program}.change(ctx, nil, was.Keys)}
	for _, file := range was.Files {
		faults = append(faults, restore(file, was.Interface))
	}
	if err := errors.Join(faults...); err != nil || was.Folder == "" {
		return err
	}
	if left, err := os.ReadDir(was.Folder); err != nil || len(left) > 0 {
		return nil //nolint:nilerr // gone already, or somebody else has use for it
	}
	return os.Remove(was.Folder)
}

// Former returns what the machine asks by itself.
func (m *macOS) Former() Former {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.former
}

// Watch looks again whenever the system has written resolv.conf, and sets what
// was lost.
func (m *macOS) Watch(ctx context.Context, changed func()) error {
	return watching(ctx, fileWatch(m.path), func() (again bool) {
		other, err := m.look(ctx)
		if err != nil && ctx.Err() == nil {
			m.logger.Warn("name servers not looked at", "error", err)
		}
		if other {
			changed()
		}
		return false
	})
}

// look reads what the machine asks by itself and reports whether that is another.
func (m *macOS) look(ctx context.Context) (other bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	former, err := m.store.global(ctx)
	if err == nil {
		other = !slices.Equal(former.Servers, m.former.Servers)
		m.former = former
	}
	if !m.set.isZero() {
		lost, lostErr := m.store.lost(ctx, storeEntries(m.set))
		err = errors.Join(err, lostErr, m.store.change(ctx, lost, nil))
	}
	return other, err
}

// Status tells what was set.
func (m *macOS) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Status{Kind: Scutil, Set: m.set, Former: m.former}
}

// Close takes everything of ours away.
func (m *macOS) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.putBack(context.Background())
}
