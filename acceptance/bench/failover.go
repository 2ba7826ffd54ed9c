package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// replyLine is what `ping -D` prints for an answer.
var replyLine = regexp.MustCompile(`^\[(\d+\.\d+)\] .* icmp_seq=`)

// failoverRelay prints how long no answer comes between two machines when the relay that the first one uses is killed. There
// are two relays; a round each kills the one in use and starts it again.
func failoverRelay(ctx context.Context, c config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := lab.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	f := &relayField{config: c, lab: l}
	var gaps []float64
	for round := range c.rounds {
		gap, err := f.failover(ctx, fmt.Sprint("round", round))
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		gaps = append(gaps, float64(gap.Milliseconds()))
	}
	figure("failover_relay_ms", median(gaps), "ms")
	figure("failover_relay_worst_ms", slices.Max(gaps), "ms")
	return nil
}

// failover builds a network with two relays, kills the one in use and returns the longest pause between two answers.
func (f *relayField) failover(ctx context.Context, name string) (gap time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := f.lab.Host(name+"-server", f.lab.Internet())
	if err != nil {
		return 0, err
	}
	one := &contestant{name: name}
	flags := []string{"--relay=false"}
	var relays []*fleet.Relay
	for _, which := range []string{"-one", "-two"} {
		relay, err := f.relay(ctx, name+which, fleet.WattleRelay(f.bin))
		if err != nil {
			return 0, err
		}
		relays = append(relays, relay)
		flags = append(flags, "--separate-relay", relay.Address)
	}
	dir := filepath.Join(f.dir, name)
	server, err := fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: f.bin, Dir: filepath.Join(dir, "server"), On: host, Address: host.Addr.String(), Port: "443", Relay: "3478",
		Flags: append(flags, "--relay-secret-file", relays[0].SecretFile),
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if one.a, err = f.machineBehind(name+"-a", lab.Symmetric); err != nil {
		return 0, err
	}
	if one.b, err = f.machineBehind(name+"-b", lab.Symmetric); err != nil {
		return 0, err
	}
	if err := f.join(ctx, one, server, dir, []string{"ping", name + "-b", "-n", "1"}); err != nil {
		return 0, err
	}
	status, err := one.first.Wattle(ctx, "status", "--detail")
	if err != nil {
		return 0, err
	}
	used := slices.IndexFunc(relays, func(r *fleet.Relay) bool { return strings.Contains(status, r.Address) })
	if used < 0 {
		return 0, fmt.Errorf("the status names no relay:\n%s", status)
	}
	return pause(ctx, one, relays[used].Kill)
}

// pause sends an echo every 10 ms, calls event and returns the longest time without an answer.
func pause(ctx context.Context, one *contestant, event func() error) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ping := one.a.Command(ctx, "ping", "-D", "-n", "-i", "0.01", one.to.Addr().String())
	out, err := ping.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	if err := ping.Start(); err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	defer func() { _ = ping.Wait() }() // it was killed
	defer cancel()
	return longestGap(out, event)
}

// longestGap reads the answers of one second, calls event, and reads those of the next four.
func longestGap(out io.Reader, event func() error) (longest time.Duration, err error) {
	var first, last time.Duration
	called := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		match := replyLine.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		seconds, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return 0, fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		at := time.Duration(seconds * float64(time.Second))
		if last != 0 && called {
			longest = max(longest, at-last)
		}
		if last = at; first == 0 {
			first = at
		}
		switch {
		case !called && at-first > time.Second:
			called = true
			if err := event(); err != nil {
				return 0, err
			}
		case at-first > 5*time.Second:
			return longest, nil
		}
	}
	return 0, errors.New("the answers did not come back")
}
