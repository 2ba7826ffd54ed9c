package local

// SettingsSchema names the form of Settings, SetSchema that of SetAnswer.
const (
	SettingsSchema = "wattle.settings/v1"
	SetSchema      = "wattle.set/v1"
)

// Settings are all settings of the agent.
type Settings struct {
	Schema string `json:"schema"`

	// File is where `wattle set` keeps them; empty when the daemon has none.
	File string `json:"file"`

	Settings []Setting `json:"settings"`

	// Warnings are sentences about the file.
	Warnings []string `json:"warnings"`
}

// Setting is one setting and where its value comes from.
type Setting struct {
	Name string `json:"name"`

	// Value is a text, a number, a boolean or a list, as in the settings file.
	Value any `json:"value"`

	// Text is the value as `wattle set` takes it.
	Text string `json:"text"`

	// Origin is flag, env, file, server or default.
	Origin string `json:"origin"`

	Usage   string   `json:"usage"`
	Choices []string `json:"choices"` // empty: others than a few
}

// SetRequest changes keys of the settings file. An empty text removes a key.
type SetRequest struct {
	Settings map[string]string `json:"settings"`
}

// SetAnswer says what became of a change.
type SetAnswer struct {
	Schema string `json:"schema"`

	// Hidden are the keys that were kept, and do not act because the daemon was
	// given another value in a stronger way.
	Hidden []Hidden `json:"hidden"`
}

// Hidden is a setting whose value in the file does not act.
type Hidden struct {
	Name   string `json:"name"`
	Origin string `json:"origin"` // flag or env
}

// LevelRequest changes what is logged until the daemon ends.
type LevelRequest struct {
	Level string `json:"level"` // debug, info, warn or error
}
