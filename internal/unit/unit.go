// Package unit holds the files with which service managers run the agent.
package unit

import _ "embed"

// Program is where all files here expect the agent.
const Program = "/usr/local/bin/wattle"

// Agent is the unit of `wattle daemon`; systemd knows it as wattle.service. It
// needs the user that AgentUser makes.
//
//go:embed wattle.service
var Agent string

// Online is the target for units that need overlay addresses,
// wattle-online.target; it needs Wait, which is wattle-wait-online.service.
//
//go:embed wattle-online.target
var Online string

// Wait waits until the addresses are usable.
//
//go:embed wattle-wait-online.service
var Wait string

// AgentUser makes the user and the group of the agent (sysusers.d(5)).
//
//go:embed wattle.sysusers
var AgentUser string

// AgentRights lets that user set the name servers of the machine (polkit(8)).
//
//go:embed wattle.rules
var AgentRights string

// Launchd is the job of macOS (launchd.plist(5)), and LaunchdLabel its name.
//
//go:embed wattle.plist
var Launchd string

// LaunchdLabel is the name under which launchd knows the agent.
const LaunchdLabel = "com.github.wattlenet.wattle"

// RC is the script of FreeBSD (rc.subr(8)).
//
//go:embed wattle.rc
var RC string
