package bundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A File is one part of a bundle.
type File struct {
	Name string
	What string // one line for the list of contents
	Text string
}

// Contents lists the parts, as it stands in CONTENTS.txt.
func Contents(mode Mode, files []File) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "Redacted: %s. Secrets are never in a bundle, whatever the mode.\n\n", mode)
	for _, file := range files {
		fmt.Fprintf(text, "%8d  %-18s  %s\n", len(file.Text), file.Name, file.What)
	}
	return text.String()
}

// Write packs redacted files as a tar archive under gzip, all in one folder.
func Write(w io.Writer, folder string, at time.Time, files []File) error {
	zipped := gzip.NewWriter(w)
	packed := tar.NewWriter(zipped)
	for _, file := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: folder + "/" + file.Name, Mode: 0o600, Size: int64(len(file.Text)), ModTime: at, Format: tar.FormatPAX,
		}
		if err := packed.WriteHeader(header); err != nil {
			return fmt.Errorf("pack %s: %w", file.Name, err)
		}
		if _, err := io.WriteString(packed, file.Text); err != nil {
			return fmt.Errorf("pack %s: %w", file.Name, err)
		}
	}
	return errors.Join(packed.Close(), zipped.Close())
}
