package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idle prints the resident memory of a control plane and of an agent that have nothing to do.
func idle(ctx context.Context, c config) (err error) {
	n, err := newNetwork(ctx, c, lan)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	a, err := n.machine(ctx, n.a, "a")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	if err := a.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return err
	}
	if err := settle(ctx, 10*time.Second); err != nil { // what start-up needed is given back
		return err
	}
	agent, err := resident(a.PID())
	if err != nil {
		return err
	}
	server, err := resident(n.server.PID())
	if err != nil {
		return err
	}
	figure("idle_agent_rss_mib", agent, "MiB")
	figure("idle_server_rss_mib", server, "MiB")
	return nil
}

// trafficRest is until what traffic took has been given back: the agent looks every minute, and once more whether it rests.
const trafficRest = 130 * time.Second

// idleTraffic prints the resident memory of an agent right after it has carried as much as it can, and when it rests again.
func idleTraffic(ctx context.Context, c config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := newNetwork(ctx, c, lan)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ends, _, err := agentTunnel(ctx, n)
	if err != nil {
		return err
	}
	const streams = 4
	for i := range uint16(streams) {
		_, err1 := throughput(ctx, n.a, n.b, netip.AddrPortFrom(ends.b, 5201+i).String())
		_, err2 := throughput(ctx, n.b, n.a, netip.AddrPortFrom(ends.a, 5201+i).String())
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
	}
	busy, err := resident(ends.pids[0])
	if err != nil {
		return err
	}
	if err := settle(ctx, trafficRest); err != nil {
		return err
	}
	rested, err := resident(ends.pids[0])
	if err != nil {
		return err
	}
	figure("busy_agent_rss_mib", busy, "MiB")
	figure("idle_agent_after_traffic_rss_mib", rested, "MiB")
	return nil
}

// resident returns the resident memory of a process in MiB.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d shows no resident memory", pid)
}
