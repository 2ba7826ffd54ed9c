package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Temporary is how the names begin that a file has while Replace writes it. A
// process that is killed may leave one.
func Temporary(name string) string { return "." + name + "." }

// Replace replaces a file as a whole or not at all, and returns when it is on
// disk. The error says what to do; nothing was changed then.
func Replace(path string, content []byte, mode fs.FileMode) (err error) {
	dir, name := filepath.Split(path)
	file, err := os.CreateTemp(filepath.Clean(dir), Temporary(name)+"*") // mode 0600
	if err != nil {
		return explained(path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err == nil && runtime.GOOS != "windows" { // where the folder says who may
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return explained(path, err)
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return explained(path, err)
	}
	return Sync(filepath.Dir(path))
}

// Remove removes a file for good; one that is not there is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, cause(err))
	}
	return Sync(filepath.Dir(path))
}

// explained names the cause in words where the system's word is not enough.
func explained(path string, err error) error {
	switch {
	case IsFull(err):
		return fmt.Errorf("write %s: the disk is full; free some space, nothing was changed (%w)", path, cause(err))
	case errors.Is(err, fs.ErrPermission), isReadOnly(err):
		return fmt.Errorf("write %s: the folder is not writable for this user; change its owner or run as root, nothing was changed (%w)", path, cause(err))
	}
	return fmt.Errorf("write %s: %w", path, cause(err))
}

// cause leaves out the name of the temporary file, which nobody has chosen.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}
