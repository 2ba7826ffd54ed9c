package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/journal"
	"github.com/wattlenet/wattle/internal/folder"
)

// repairInterval is the least time between two repairs of a file that another
// program writes too.
const repairInterval = time.Second

// A file sets the name servers where nobody manages them: in resolv.conf.
type file struct {
	logger  *slog.Logger
	path    string
	journal journal.File[record]

	mu      sync.Mutex // guards all below
	set     Config
	written string // what the file holds while set is in force
	before  resolvFile
	empty   bool // the file was, when it was looked at last
	repairs int
	other   string // how the program signs that writes the file too
}

func newFile(o Options) *file {
	f := &file{logger: o.Logger, path: o.path(), journal: o.journal()}
	if text, err := readFile(f.path); err == nil {
		f.before = parseFile(text)
	}
	return f
}

// Set writes the file, after what it was is on disk elsewhere.
func (f *file) Set(_ context.Context, c Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.isZero() {
		return f.putBack()
	}
	for _, server := range c.Servers {
		if server.Port() != 53 {
			return fmt.Errorf("%s cannot name the port %d; free port 53 of %s, or use systemd-resolved", f.path, server.Port(), server.Addr())
		}
	}
	return f.apply(c)
}

// apply writes c unless it is in force. The caller holds mu.
func (f *file) apply(c Config) error {
	text, err := readFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the name servers of this machine: %w", err)
	}
	found := parseFile(text)
	if found.ours != c.Interface {
		if err := f.adopt(found, c); err != nil {
			return err
		}
	}
	wanted := renderFile(c, f.before)
	if text != wanted {
		if err := writeFile(f.path, wanted, f.mode()); err != nil {
			return fmt.Errorf("set the name servers of this machine: %w; let the daemon write %s, or start it with --dns off", err, f.path)
		}
	}
	f.set, f.written = c, wanted
	return nil
}

// adopt takes what another program wrote for what the machine had before us. The
// caller holds mu.
func (f *file) adopt(found resolvFile, c Config) error {
	if found.ours != "" {
		if _, err := net.InterfaceByName(found.ours); err == nil {
			return otherAgent(found.ours)
		}
	}
	if slices.ContainsFunc(c.Servers, func(own netip.AddrPort) bool { return slices.Contains(found.servers, own.Addr()) }) {
		return nil // a copy of ours: nothing was there before that could come back
	}
	was, err := takeBackup(f.path)
	if err != nil {
		return fmt.Errorf("read the name servers of this machine: %w", err)
	}
	if err := f.journal.Write(record{Kind: File, Interface: c.Interface, File: &was}); err != nil {
		return err
	}
	f.before = found
	return nil
}

// otherAgent is the error for what the agent of an interface that is there has set.
func otherAgent(name string) error {
	return fmt.Errorf("another wattle agent, that of the interface %s, sets the name servers of this machine; start one of the two with --dns off", name)
}

// putBack makes the file what it was. The caller holds mu.
func (f *file) putBack() error {
	if f.set.isZero() {
		return nil
	}
	entry, err := f.journal.Read()
	if err == nil && entry != nil && entry.Was.File != nil {
		err = restore(*entry.Was.File, f.set.Interface)
	}
	if err != nil {
		return fmt.Errorf("put the former name servers back: %w", err)
	}
	f.set, f.written = Config{}, ""
	return f.journal.Forget()
}

// Former returns what the file said before.
func (f *file) Former() Former {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before.former()
}

// Status tells what is in the file, and who else writes it.
func (f *file) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Kind: File, Set: f.set, Former: f.before.former()}
	if f.repairs > 0 {
		s.Note = fmt.Sprintf("another program (%s) writes %s too; it was repaired %d times. Let that program leave the file alone, or start the daemon with --dns off",
			f.other, f.path, f.repairs)
	}
	return s
}

// Close puts the file back.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putBack()
}

// Watch writes the file again when another program has written it, and takes
// what that wrote for what the machine asks without us.
func (f *file) Watch(ctx context.Context, changed func()) error {
	return watching(ctx, fileWatch(f.path), func() (again bool) {
		other, again := f.repair()
		if other {
			changed()
		}
		return again
	})
}

// A watch sends to events, which holds one, in the beginning and whenever what it
// watches may have changed, until ctx ends.
type watch func(ctx context.Context, events chan<- struct{}) error

// fileWatch watches the file at path.
func fileWatch(path string) watch {
	return func(ctx context.Context, events chan<- struct{}) error { return watchFile(ctx, path, events) }
}

// watching calls look after each event, at most once in repairInterval, until ctx
// ends; once more in any case when look wants to look again.
func watching(ctx context.Context, watch watch, look func() (again bool)) error {
	events := make(chan struct{}, 1)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	watcher.Go(func() { failed <- watch(ctx, events) })
	for {
		select {
		case err := <-failed:
			return err
		case <-events:
		}
		again := look()
		pause := time.NewTimer(repairInterval)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		if again {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}
}

// repair makes the file ours again if it is not, and reports whether what was
// before us is another. A file that is empty may be about to be written: what
// its writer writes into a file that we have replaced would be lost, so it wants
// to be looked at again.
func (f *file) repair() (other, again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := readFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = "", nil
	}
	if err != nil || text == f.written {
		return false, false
	}
	if text == "" && !f.empty {
		f.empty = true
		return false, true
	}
	f.empty = false
	found, before := parseFile(text), f.before
	if f.set.isZero() {
		f.before = found
		return !slices.Equal(before.servers, found.servers), false
	}
	f.repairs++
	f.other = found.title
	if f.other == "" {
		f.other = "which does not sign"
	}
	if err := f.apply(f.set); err != nil {
		f.logger.Warn("name servers not set again", "error", err)
	} else {
		f.logger.Info("name servers set again", "written_by", f.other)
	}
	return !slices.Equal(before.servers, f.before.servers), false
}

// mode is the mode of the file. The caller holds mu.
func (f *file) mode() fs.FileMode {
	if info, err := os.Stat(f.path); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

func readFile(path string) (text string, err error) {
	in, err := os.Open(path) //nolint:gosec // resolv.conf, or the journal's word for it
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(in, maxFile))
	return string(raw), err
}

// writeFile replaces the file, and a symbolic link in its place too. Where that
// cannot be, since the file is mounted or its folder is closed, it is written in
// place.
func writeFile(path, text string, mode fs.FileMode) error {
	replacing := folder.Replace(path, []byte(text), mode)
	if replacing == nil || folder.IsFull(replacing) {
		return replacing
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, mode) //nolint:gosec // resolv.conf
	if err != nil {
		return errors.Join(replacing, err)
	}
	before, err := io.ReadAll(io.LimitReader(out, maxFile))
	if err == nil {
		if err = overwrite(out, []byte(text)); err != nil {
			err = errors.Join(err, overwrite(out, before)) // it had room for that
		}
	}
	return errors.Join(err, out.Close())
}

func overwrite(file *os.File, content []byte) error {
	_, err := file.WriteAt(content, 0)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	if err == nil {
		err = file.Sync()
	}
	return err
}

// takeBackup reads what is at path.
func takeBackup(path string) (backup, error) {
	b := backup{Path: path, Mode: 0o644}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		b.Missing = true
		return b, nil
	}
	if err != nil {
		return b, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if b.Target, err = os.Readlink(path); err != nil {
			return b, err
		}
	} else {
		b.Mode = info.Mode().Perm()
	}
	b.Content, err = readFile(path)
	if errors.Is(err, fs.ErrNotExist) && b.Target != "" {
		err = nil // a link that leads nowhere
	}
	return b, err
}

// restore makes a file what it was if it is still the one that the agent of the
// interface wrote; otherwise somebody has set it since, who knows better.
func restore(b backup, name string) error {
	text, err := readFile(b.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if parseFile(text).ours != name {
		return nil
	}
	switch {
	case b.Missing:
		return os.Remove(b.Path)
	case b.Target != "":
		if linked, err := os.Readlink(b.Path); err == nil && linked == b.Target {
			return writeFile(b.Path, b.Content, b.Mode) // it was written in place
		}
		return relink(b)
	}
	return writeFile(b.Path, b.Content, b.Mode)
}

// relink puts a symbolic link back, at no time without one.
func relink(b backup) error {
	beside := b.Path + ".wattle"
	if err := os.Symlink(b.Target, beside); err != nil {
		return err
	}
	if err := os.Rename(beside, b.Path); err != nil {
		return errors.Join(err, os.Remove(beside))
	}
	return nil
}
