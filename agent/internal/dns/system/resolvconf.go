//go:build linux || freebsd

package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/wattlenet/wattle/agent/internal/journal"
)

// entryPrefix begins the name under which resolvconf knows us: it orders its
// entries by name, and those of tunnels come first (interface-order(5)).
const entryPrefix = "tun."

// resolvconfFolders hold one file for each entry: the one of openresolv on Linux,
// the one of Debian's resolvconf, and the one of openresolv on FreeBSD.
var resolvconfFolders = []string{"/run/resolvconf/interfaces", "/run/resolvconf/interface", "/var/run/resolvconf/interfaces"}

// resolvconf sets the name servers as an entry of the program of that name.
type resolvconf struct {
	logger  *slog.Logger
	path    string // of resolv.conf
	journal journal.File[record]
	program string

	mu     sync.Mutex // guards all below
	set    Config
	before Former // what resolv.conf said before us
}

// findResolvconf returns the Setter if resolvconf writes resolv.conf.
func findResolvconf(_ context.Context, o Options) (Setter, error) {
	program, err := findProgram()
	if err != nil {
		return nil, err
	}
	text, err := readFile(o.path())
	found := parseFile(text)
	if err != nil || !strings.Contains(found.title, "resolvconf") {
		return nil, errElsewhere
	}
	return &resolvconf{logger: o.Logger, path: o.path(), journal: o.journal(), program: program, before: found.former()}, nil
}

// findProgram returns the path of resolvconf. systemd has one of this name too,
// which only leads to systemd-resolved.
func findProgram() (string, error) {
	program, err := exec.LookPath("resolvconf")
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(program); err == nil && filepath.Base(real) == "resolvectl" {
		return "", errElsewhere
	}
	return program, nil
}

// Set gives resolvconf our entry.
func (r *resolvconf) Set(ctx context.Context, c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.isZero() {
		return r.putBack(ctx)
	}
	for _, server := range c.Servers {
		if server.Port() != 53 {
			return explainedProgram(errors.New("it takes port 53 only, which another program has"))
		}
	}
	if r.set.equal(c) {
		return nil
	}
	if err := r.journal.Write(record{Kind: Resolvconf, Interface: c.Interface}); err != nil {
		return err
	}
	if err := r.add(ctx, c); err != nil {
		return explainedProgram(err)
	}
	r.set = c
	return nil
}

// add hands our entry over. Only openresolv knows the flag that leaves no place
// for others; with the other program we are asked first.
func (r *resolvconf) add(ctx context.Context, c Config) error {
	text := renderFile(c, resolvFile{search: r.former().Search})
	_, err := run(ctx, r.program, text, "-m", "0", "-x", "-a", entryPrefix+c.Interface)
	if err != nil {
		_, err = run(ctx, r.program, text, "-a", entryPrefix+c.Interface)
	}
	return err
}

func explainedProgram(err error) error {
	return fmt.Errorf("set the name servers of this machine with resolvconf: %w; if that goes on, start the daemon with --dns off", err)
}

// putBack takes our entry away. The caller holds mu.
func (r *resolvconf) putBack(ctx context.Context) error {
	if r.set.isZero() {
		return nil
	}
	if err := removeEntry(ctx, r.program, r.set.Interface); err != nil {
		return explainedProgram(err)
	}
	r.set = Config{}
	return r.journal.Forget()
}

// undoResolvconf takes the entry for an interface away; with the program it went
// itself.
func undoResolvconf(ctx context.Context, name string) error {
	program, err := findProgram()
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeEntry(ctx, program, name)
}

// removeEntry takes the entry for an interface away; one that is gone already is
// none of resolvconf's business.
func removeEntry(ctx context.Context, program, name string) error {
	if !hasEntry(name) {
		return nil
	}
	_, err := run(ctx, program, "", "-d", entryPrefix+name)
	return err
}

// hasEntry reports whether resolvconf has our entry for an interface.
func hasEntry(name string) bool {
	return slices.ContainsFunc(resolvconfFolders, func(folder string) bool {
		_, err := os.Stat(filepath.Join(folder, entryPrefix+name))
		return !errors.Is(err, fs.ErrNotExist)
	})
}

// Former returns what the other entries say.
func (r *resolvconf) Former() Former {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.former()
}

// former reads the other entries, and what was in the file before us when there
// are none. The caller holds mu.
func (r *resolvconf) former() Former {
	var found Former
	for _, folder := range resolvconfFolders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if r.set.Interface != "" && entry.Name() == entryPrefix+r.set.Interface {
				continue
			}
			text, err := readFile(filepath.Join(folder, entry.Name()))
			if err != nil {
				continue // gone meanwhile
			}
			its := parseFile(text).former()
			for _, server := range its.Servers {
				if !slices.Contains(found.Servers, server) {
					found.Servers = append(found.Servers, server)
				}
			}
			found.Search = append(found.Search, its.Search...)
		}
	}
	if len(found.Servers) == 0 {
		return r.before
	}
	return found
}

// Watch looks at the entries whenever resolv.conf changes, and hands ours over
// again when it is lost.
func (r *resolvconf) Watch(ctx context.Context, changed func()) error {
	former := r.Former()
	return watching(ctx, fileWatch(r.path), func() (again bool) {
		r.mu.Lock()
		if !r.set.isZero() && !hasEntry(r.set.Interface) {
			if err := r.add(ctx, r.set); err != nil {
				r.logger.Warn("name servers not set again", "error", err)
			}
		}
		now := r.former()
		r.mu.Unlock()
		if !slices.Equal(now.Servers, former.Servers) {
			former = now
			changed()
		}
		return false
	})
}

// Status tells what our entry is.
func (r *resolvconf) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Kind: Resolvconf, Set: r.set, Former: r.former()}
}

// Close takes our entry away.
func (r *resolvconf) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.putBack(context.Background())
}
