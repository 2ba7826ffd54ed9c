package control

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// osVersion returns VERSION_ID of os-release(5); empty for a distribution
// without versions.
func osVersion() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		text, err = os.ReadFile("/usr/lib/os-release")
	}
	if err != nil {
		return ""
	}
	return versionID(string(text))
}

// versionID finds VERSION_ID among assignments as a shell reads them.
func versionID(text string) (version string) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_ID="); ok {
			version = strings.Trim(value, `"'`)
		}
	}
	return version
}

var errHidden = errors.New("programs of other users cannot be seen; run the agent as root, or give its service CAP_SYS_PTRACE and ProtectProc=default")

// executables lists what runs, as far as this user may see it (proc_pid_exe(5)).
func executables() ([]executable, error) {
	folder, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	names, err := folder.Readdirnames(-1)
	_ = folder.Close() // it was only read
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	var list []executable
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		link := "/proc/" + name + "/exe"
		path, err := os.Readlink(link)
		if err != nil {
			continue // of the kernel, of another user, or it has ended
		}
		if file, deleted := strings.CutSuffix(path, " (deleted)"); deleted {
			path, link = file, ""
		}
		list = append(list, executable{path: path, link: link})
	}
	// The first process is root's: who may see it sees all.
	if _, err := os.Readlink("/proc/1/exe"); err != nil {
		return list, errHidden
	}
	return list, nil
}
