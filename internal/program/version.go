package program

import "runtime/debug"

// release is set by the linker (-X) in release builds.
var release string

// Version returns the version of the program: the release, else the module
// version or commit that the Go toolchain recorded, else "devel".
func Version() string {
	if release != "" {
		return release
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if version := build.Main.Version; version != "" && version != "(devel)" {
		return version
	}
	revision, modified := "", ""
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			revision = setting.Value[:min(12, len(setting.Value))]
		case "vcs.modified":
			if setting.Value == "true" {
				modified = "+changes"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + modified
}
