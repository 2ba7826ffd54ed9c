//go:build !unix

package store

// takeFile relies on the locks of SQLite where flock does not exist.
func takeFile(path string) (release func() error, err error) {
	return func() error { return nil }, checkFolder(path)
}
