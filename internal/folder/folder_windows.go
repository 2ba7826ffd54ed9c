// Package folder keeps what a program leaves on disk whole and to itself.
package folder

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
)

// Restrict leaves a folder and what will be made in it to the system, to
// administrators and to the user of this process, who becomes the owner: on
// Windows the mode of a folder means nothing, and folders below %ProgramData%
// can be read by everybody.
func Restrict(dir string) error {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("restrict %s: %w", dir, err)
	}
	descriptor, err := windows.SecurityDescriptorFromString(
		"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;" + user.User.Sid.String() + ")")
	if err != nil {
		return fmt.Errorf("restrict %s: %w", dir, err)
	}
	list, _, err := descriptor.DACL()
	if err != nil {
		return fmt.Errorf("restrict %s: %w", dir, err)
	}
	const parts = windows.OWNER_SECURITY_INFORMATION | windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, parts, user.User.Sid, nil, list, nil); err != nil {
		return fmt.Errorf("restrict %s: %w", dir, err)
	}
	return nil
}

// Sync does nothing: a folder cannot be synced on Windows.
func Sync(string) error { return nil }

// IsFull reports whether an error tells of a disk without space.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
