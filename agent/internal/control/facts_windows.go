package control

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// kernelVersion returns version and build, such as 10.0.19045.
func kernelVersion() string {
	v := windows.RtlGetVersion()
	return fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
}

// osVersion is that of the kernel: Windows has no other one that can be compared.
func osVersion() string { return kernelVersion() }

// executables lists what runs, as far as this user may see it.
func executables() (list []executable, err error) {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	defer func() { _ = windows.CloseHandle(snapshot) }()
	entry := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(snapshot, &entry); err == nil; err = windows.Process32Next(snapshot, &entry) {
		if path, err := imagePath(entry.ProcessID); err == nil {
			list = append(list, executable{path: path})
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return list, fmt.Errorf("list programs: %w", err)
	}
	return list, nil
}

// imagePath returns the file of a process.
func imagePath(pid uint32) (string, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return "", err
	}
	defer func() { _ = windows.CloseHandle(process) }()
	name := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(name))
	if err := windows.QueryFullProcessImageName(process, 0, &name[0], &size); err != nil {
		return "", err
	}
	return windows.UTF16ToString(name[:size]), nil
}
