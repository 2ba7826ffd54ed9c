package start

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/folder"
)

// profileFallback lies in the data folder and is used when the process has no
// home folder, as in a system unit.
const profileFallback = "credentials"

// A profilePlace is where the credentials profile goes.
type profilePlace struct {
	// path is what the profile is written to.
	path string

	// occupied is the profile of another server that stays as it is; empty
	// when there is none.
	occupied string
}

// placeProfile decides where the profile of the server at public goes, and
// makes sure that it can be written there before any secret is made. A profile
// of another server is never overwritten: this one goes beside it.
func placeProfile(configured, dataDir string, public *url.URL, pin string) (profilePlace, error) {
	path := configured
	if path == "" {
		usual, err := sdk.ProfilePath()
		if err != nil {
			usual = filepath.Join(dataDir, profileFallback)
		}
		path = usual
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return profilePlace{}, fmt.Errorf("find the credentials profile: %w", err)
	}
	place := profilePlace{path: path}
	existing, err := sdk.ReadProfile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil, existing.URL != public.String() && (pin == "" || existing.CAPin != pin):
		place.occupied, place.path = path, path+"."+strings.NewReplacer(":", "-", "[", "", "]", "").Replace(public.Host)
	}
	return place, writable(filepath.Dir(place.path))
}

// authoritySuffix ends the name of the certificate beside a profile.
const authoritySuffix = ".ca.pem"

// leaveAuthority puts the certificate of the installation's own authority
// beside the profile, for programs that know no pin, such as Terraform's http
// backend and curl. It returns the path, empty when there is no such authority.
func (i *Installation) leaveAuthority(place profilePlace) (string, error) {
	if i.authority == nil {
		return "", nil
	}
	path := place.path + authoritySuffix
	if err := folder.Replace(path, i.authority, 0o644); err != nil {
		return "", fmt.Errorf("leave the certificate of the authority beside the profile: %w", err)
	}
	return path, nil
}

// writable makes a folder if need be and proves that a file can be made in it.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the place is the operator's choice
		return fmt.Errorf("the folder of the credentials profile cannot be made: %w; choose another place with --credentials", err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("the credentials profile cannot be written: %w; choose another place with --credentials", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name())) //nolint:gosec // made above
}
