package engine

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/local"
)

// stackSize bounds the stacks of all goroutines, in bytes.
const stackSize = 1 << 20

// Debug tells what only the daemon knows about itself.
func (e *Engine) Debug(context.Context) local.Debug {
	said := local.Debug{Schema: local.DebugSchema, Rules: []any{}, Sets: map[string][]string{}}
	if e.config.Tail != nil {
		said.Log = e.config.Tail.String()
	}
	if e.config.Level != nil {
		said.Level = strings.ToLower(e.config.Level.Level().String())
	}
	stacks := make([]byte, stackSize)
	said.Goroutines = string(stacks[:runtime.Stack(stacks, true)])
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	said.Memory = memory.Sys
	_, running, _ := e.now()
	if running == nil {
		return said
	}
	_, _, applied, _ := running.snapshot()
	if applied == nil {
		return said
	}
	for _, id := range slices.Sorted(applied.Rules.Keys()) {
		said.Rules = append(said.Rules, applied.Rules.At(id))
	}
	for id, set := range applied.Sets.All() {
		names := []string{}
		for ordinals := set.Iterator(); ordinals.HasNext(); {
			names = append(names, cmp.Or(applied.Peers.At(ordinals.Next()).Name, "?"))
		}
		said.Sets[id] = names
	}
	return said
}
