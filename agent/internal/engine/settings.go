package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/program"
)

// pushed is what the control plane says about settings of this machine.
func pushed(m *mapstate.Map) settings.Given {
	if m == nil {
		return nil
	}
	given := settings.Given{}
	if m.Self.KeepsDns {
		given["dns"] = string(system.Off)
	}
	if m.Self.KeepsPaths {
		given["lazy_connections"] = "off"
	}
	switch mode := m.Self.PostQuantum; {
	case slices.Contains(settings.PostQuantums, mode):
		given["post_quantum"] = mode
	case mode != "": // of a later release: no less than we know
		given["post_quantum"] = string(postquantum.Strict)
	}
	return given
}

// under are the settings that are in force with a map.
func (e *Engine) under(m *mapstate.Map) settings.Values { return e.config.Settings.Values(pushed(m)) }

// values are the settings in force.
func (e *Engine) values() settings.Values { return e.config.Settings.Values(e.pushed()) }

func (e *Engine) pushed() settings.Given {
	_, running, _ := e.now()
	if running == nil {
		return nil
	}
	_, _, applied, _ := running.snapshot()
	return pushed(applied)
}

// force is the one kind of path that a path mode leaves.
func force(mode string) connectivity.Path {
	switch mode {
	case "direct":
		return connectivity.PathDirect
	case "relay":
		return connectivity.PathRelayed
	}
	return ""
}

// Settings tells every setting with its value and where that comes from.
func (e *Engine) Settings(context.Context) local.Settings {
	book := e.config.Settings
	said := local.Settings{Schema: local.SettingsSchema, File: book.Path(), Settings: []local.Setting{}, Warnings: append([]string{}, book.Warnings()...)}
	for _, each := range book.Effective(e.pushed()) {
		said.Settings = append(said.Settings, local.Setting{
			Name: each.Setting.Name, Value: each.JSON, Text: each.Value, Origin: string(each.Origin), Usage: each.Setting.Usage,
			Choices: append([]string{}, each.Setting.Choices...),
		})
	}
	return said
}

// Set keeps settings and makes the agent act on them. When the machine cannot
// work with them it works with the former ones, and the error says why.
func (e *Engine) Set(_ context.Context, request local.SetRequest) (local.SetAnswer, error) {
	e.commands.Lock()
	defer e.commands.Unlock()
	before := e.values()
	undo, err := e.config.Settings.Change(request.Settings)
	if err != nil {
		code := program.ExitFailed
		if _, unknown := errors.AsType[*settings.UnknownError](err); unknown {
			code = program.ExitUsage
		}
		return local.SetAnswer{}, local.Errorf(code, "%v", err)
	}
	if err := e.act(before); err != nil {
		failed := e.values()
		err = local.Errorf(program.ExitFailed, "the settings were not taken: %v", err)
		return local.SetAnswer{}, errors.Join(err, undo(), e.act(failed))
	}
	answer := local.SetAnswer{Schema: local.SetSchema, Hidden: []local.Hidden{}}
	for name := range request.Settings {
		if origin, hidden := e.config.Settings.Covers(name); hidden {
			answer.Hidden = append(answer.Hidden, local.Hidden{Name: name, Origin: string(origin)})
		}
	}
	return answer, nil
}

// Reload reads the settings file again and acts on it.
func (e *Engine) Reload(context.Context) error {
	e.commands.Lock()
	defer e.commands.Unlock()
	before := e.values()
	if err := e.config.Settings.Reload(); err != nil {
		return local.Errorf(program.ExitFailed, "%v", err)
	}
	return e.act(before)
}

// act makes the agent do what has changed since before. The caller holds
// commands.
func (e *Engine) act(before settings.Values) error {
	after := e.values()
	if e.config.Level != nil && before.LogLevel != after.LogLevel {
		level, err := program.ParseLevel(after.LogLevel)
		if err != nil {
			return err
		}
		e.config.Level.Set(level)
	}
	effect := settings.Difference(before, after)
	mine, running, _ := e.now()
	switch {
	case effect == settings.Reopen && mine != nil && mine.Enrolled() && mine.Up:
		why := endsToReopen
		if before.Interface != after.Interface || before.Tunnel != after.Tunnel || before.Firewall != after.Firewall {
			why = endsToMove
		}
		e.disconnect(why)
		return openError(e.connect(nil))
	case effect >= settings.Facts && running != nil:
		running.session.Report()
	}
	if effect >= settings.Apply && running != nil {
		running.applyAgain()
	}
	return nil
}

// SetLevel changes what is logged until the daemon ends.
func (e *Engine) SetLevel(_ context.Context, request local.LevelRequest) error {
	level, err := program.ParseLevel(request.Level)
	if err != nil {
		return local.Errorf(program.ExitUsage, "%v", err)
	}
	if e.config.Level == nil {
		return local.Errorf(program.ExitFailed, "the log of this daemon has a fixed level")
	}
	e.config.Level.Set(level)
	return nil
}

// Operator is the user who may change the connection without being root.
func (e *Engine) Operator() string { return e.values().Operator }
