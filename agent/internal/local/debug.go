package local

// DebugSchema names the form of Debug.
const DebugSchema = "wattle.debug/v1"

// Debug is what only the daemon knows about itself, for a bundle. It is not
// redacted, so that it is told to those alone who may change the connection.
type Debug struct {
	Schema string `json:"schema"`

	// Log is the newest part of the log, Level the least level in it.
	Log   string `json:"log"`
	Level string `json:"level"`

	// Goroutines are the stacks of the daemon's goroutines.
	Goroutines string `json:"goroutines"`

	// Memory is what the Go runtime has from the system, in bytes.
	Memory uint64 `json:"memory_bytes"`

	// Rules and Sets are the compiled rules in force, and the names of the peers
	// in each set that they name.
	Rules []any               `json:"rules"`
	Sets  map[string][]string `json:"sets"`
}
