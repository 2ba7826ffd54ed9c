//go:build !darwin

package tunnel

// DefaultInterface is the name of the interface in ModeUserspace.
const DefaultInterface = "wt0"
