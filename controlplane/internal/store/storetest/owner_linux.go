package storetest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// An owner is the user as whom the server runs.
type owner struct{ uid, gid uint32 }

// unprivileged returns the present user, or somebody else when that is root.
func unprivileged() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{uint32(os.Geteuid()), uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return owner{uint32(uid), uint32(gid)}, nil
		}
	}
	return owner{}, fmt.Errorf("there is no user postgres or nobody")
}

func (o owner) give(path string) error { return os.Chown(path, int(o.uid), int(o.gid)) }

// become makes a command run as the owner, and end when the test is killed.
func (o owner) become(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
}
