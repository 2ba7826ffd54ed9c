package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/wattlenet/wattle/internal/folder"
)

// An Origin is where a value comes from.
type Origin string

// The origins, the strongest first.
const (
	FromFlag        Origin = "flag"
	FromEnvironment Origin = "env"
	FromFile        Origin = "file"
	FromServer      Origin = "server"
	FromDefault     Origin = "default"
)

// Given is what one source says: texts by the names of settings.
type Given map[string]string

// An Effective is one setting and the value in force.
type Effective struct {
	Setting Setting
	Value   string // as text
	JSON    any    // as the settings file holds it
	Origin  Origin
}

// A Book keeps what each source says and writes the settings file. Its zero
// value has defaults only and no file.
type Book struct {
	path             string
	flags, variables Given

	mu   sync.Mutex // guards all below
	file map[string]json.RawMessage
	bad  []string // sentences about keys of the file that nobody knows
}

// Open reads the file at path, which need not exist, and checks every source.
// An empty path means no file.
func Open(path string, flags, variables Given) (*Book, error) {
	b := &Book{path: path, flags: flags, variables: variables}
	v := Defaults()
	for _, source := range []struct {
		given Given
		name  func(Setting) string
	}{
		{variables, func(s Setting) string { return "WATTLE_" + strings.ToUpper(s.Name) }},
		{flags, func(s Setting) string { return "--" + s.Flag() }},
	} {
		for _, s := range table {
			if value, ok := source.given[s.Name]; ok {
				if err := s.parse(&v, value); err != nil {
					return nil, fmt.Errorf("%s: %w", source.name(s), err)
				}
			}
		}
	}
	return b, b.Reload()
}

// Path is the settings file; empty without one.
func (b *Book) Path() string { return b.path }

// Reload reads the settings file again. After an error the former settings hold.
func (b *Book) Reload() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	file, bad, err := b.read()
	if err != nil {
		return err
	}
	b.file, b.bad = file, bad
	return nil
}

// read returns what the settings file holds; one that is not there holds nothing.
func (b *Book) read() (file map[string]json.RawMessage, bad []string, err error) {
	if b.path == "" {
		return nil, nil, nil
	}
	raw, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the settings: %w; make the file readable for the daemon", err)
	}
	file, bad, err = decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("the settings in %s: %w; correct the file", b.path, err)
	}
	return file, bad, nil
}

// decode reads a settings file. Keys that nobody knows are no error: the file
// may have been written for a newer agent.
func decode(raw []byte) (file map[string]json.RawMessage, bad []string, err error) {
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, fmt.Errorf("not one JSON object: %w", err)
	}
	v := Defaults()
	for _, name := range slices.Sorted(maps.Keys(file)) {
		s, known := Find(name)
		if !known || s.Name != name {
			bad = append(bad, fmt.Sprintf("the settings file has the key %q, which this agent does not know; `wattle config show` lists those it knows", name))
			continue
		}
		value, err := textOf(file[name])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := s.parse(&v, value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return file, bad, nil
}

// textOf is a value of the file as text.
func textOf(raw json.RawMessage) (string, error) {
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return "", err
	}
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return fmt.Sprint(value), nil
	case json.Number:
		return value.String(), nil
	case []any:
		texts := make([]string, 0, len(value))
		for _, each := range value {
			one, ok := each.(string)
			if !ok || strings.Contains(one, ",") {
				return "", errors.New("a list holds texts without commas")
			}
			texts = append(texts, one)
		}
		return strings.Join(texts, ","), nil
	}
	return "", fmt.Errorf("%s is no value of a setting; leave the key out for the default", raw)
}

// Warnings are sentences about the settings file.
func (b *Book) Warnings() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.bad)
}

// Values returns what is in force while the control plane pushes server.
func (b *Book) Values(server Given) Values {
	v, _ := b.resolve(server)
	return v
}

// Effective returns every setting with its value and origin while the control
// plane pushes server.
func (b *Book) Effective(server Given) []Effective {
	_, all := b.resolve(server)
	return all
}

func (b *Book) resolve(server Given) (Values, []Effective) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := Defaults()
	all := make([]Effective, 0, len(table))
	for _, s := range table {
		origin := FromDefault
		value, ok := "", false
		if value, ok = b.flags[s.Name]; ok {
			origin = FromFlag
		} else if value, ok = b.variables[s.Name]; ok {
			origin = FromEnvironment
		} else if raw, found := b.file[s.Name]; found {
			value, _ = textOf(raw) // checked when it was read
			origin = FromFile
		} else if value, ok = server[s.Name]; ok {
			origin = FromServer
		}
		if origin != FromDefault {
			next := v
			if s.parse(&next, value) == nil {
				v = next
			} else {
				origin = FromDefault // what the control plane pushes may be newer than this agent
			}
		}
		at := s.field(&v)
		all = append(all, Effective{Setting: s, Value: at.String(), JSON: at.json(), Origin: origin})
	}
	return v, all
}

// Change sets keys of the settings file and writes it; an empty text removes
// the key. What others have written there since it was read stays, and acts from
// now on. When a key or value is wrong, or the file cannot be read or written,
// nothing has changed. It returns a function that takes the change back.
func (b *Book) Change(changes Given) (undo func() error, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	file, bad := b.file, b.bad // in force
	held, heldBad, err := b.read()
	if err != nil {
		return nil, err
	}
	next := maps.Clone(held)
	if next == nil {
		next = map[string]json.RawMessage{}
	}
	v := Defaults()
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		s, known := Find(name)
		if !known {
			return nil, &UnknownError{Name: name}
		}
		if changes[name] == "" {
			delete(next, s.Name)
			continue
		}
		if err := s.parse(&v, changes[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		raw, err := json.Marshal(s.field(&v).json())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		next[s.Name] = raw
	}
	if b.path == "" {
		return nil, errors.New("this daemon has no settings file; start it with --settings FILE")
	}
	if err := b.write(next); err != nil {
		return nil, err
	}
	b.file, b.bad = next, heldBad
	return func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.file, b.bad = file, bad
		return b.write(held)
	}, nil
}

// An UnknownError names a key that is no setting.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	names := make([]string, 0, len(table))
	for _, s := range table {
		names = append(names, s.Name)
	}
	return fmt.Sprintf("there is no setting %q; use one of %s", e.Name, strings.Join(names, ", "))
}

// Covers returns the origin that hides the settings file's value of a key.
func (b *Book) Covers(name string) (Origin, bool) {
	s, _ := Find(name)
	if _, ok := b.flags[s.Name]; ok {
		return FromFlag, true
	}
	if _, ok := b.variables[s.Name]; ok {
		return FromEnvironment, true
	}
	return "", false
}

// write replaces the file as a whole or not at all. The caller holds mu.
func (b *Book) write(content map[string]json.RawMessage) (err error) {
	if content == nil {
		content = map[string]json.RawMessage{}
	}
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	defer func() {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("the settings file %s is not writable for the daemon; give it the folder, or edit the file as root and run `wattle config reload`", b.path)
		} else if err != nil {
			err = fmt.Errorf("write the settings: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil { //nolint:gosec // settings are no secret
		return err
	}
	return folder.Replace(b.path, append(raw, '\n'), 0o644)
}
