package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/swarm"
)

// crowds are the numbers of visible peers with which an idle agent is measured.
var crowds = []int{10, 1000, 10000}

// Choices of the measurement.
const (
	crowdWorkers = 16
	crowdRest    = 15 * time.Second // until what joining needed has been given back
	crowdLook    = 20 * time.Second // over which processor time is counted
)

// idleCrowd prints the resident memory of an agent, and what it takes of a processor, when it sees many machines and has
// nothing to do; and how long it takes to apply the largest map, and one more machine in it. The others are simulated: they
// enrol and are never online.
func idleCrowd(ctx context.Context, c config) (err error) {
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
	present := 0
	for _, size := range crowds {
		if err := gather(ctx, n, size-present); err != nil {
			return err
		}
		present = size
		if err := sees(ctx, a, size); err != nil {
			return err
		}
		// A process that has just grown shows more than one that was started with the same map.
		if err := errors.Join(a.Stop(), a.Start(ctx), sees(ctx, a, size), settle(ctx, crowdRest)); err != nil {
			return err
		}
		memory, err := resident(a.PID())
		if err != nil {
			return err
		}
		before, err := processor(a.PID())
		if err != nil {
			return err
		}
		if err := settle(ctx, crowdLook); err != nil {
			return err
		}
		after, err := processor(a.PID())
		if err != nil {
			return err
		}
		figure(fmt.Sprintf("idle_agent_%d_rss_mib", size), memory, "MiB")
		figure(fmt.Sprintf("idle_agent_%d_cpu_percent", size), 100*(after-before).Seconds()/crowdLook.Seconds(), "%")
	}
	return applied(ctx, n, a, present)
}

// applyLine is how the status tells the time of the last application.
var applyLine = regexp.MustCompile(`"apply_ms": ?([0-9.]+)`)

// applied prints what one more machine costs an agent that sees size others, and what it did to the packet filter.
func applied(ctx context.Context, n *network, a *fleet.Machine, size int) error {
	took := func() (float64, error) {
		out, err := a.Wattle(ctx, "status", "--json")
		if err != nil {
			return 0, err
		}
		match := applyLine.FindStringSubmatch(out)
		if match == nil {
			return 0, fmt.Errorf("the status tells no time of the map:\n%s", out[:min(len(out), 500)])
		}
		return strconv.ParseFloat(match[1], 64)
	}
	whole, err := took()
	if err != nil {
		return err
	}
	figure(fmt.Sprintf("apply_map_%d_ms", size), whole, "ms")
	var joins []float64
	watching, stop := context.WithCancel(ctx)
	defer stop()
	monitor := n.a.Command(watching, "nft", "monitor")
	var changes strings.Builder
	monitor.Stdout = &changes
	if err := monitor.Start(); err != nil {
		return fmt.Errorf("watch the packet filter: %w", err)
	}
	if err := settle(ctx, time.Second); err != nil { // it subscribes
		return err
	}
	const rounds = 5
	for i := range rounds {
		if err := errors.Join(gather(ctx, n, 1), sees(ctx, a, size+i+1)); err != nil {
			return err
		}
		one, err := took()
		if err != nil {
			return err
		}
		joins = append(joins, 1000*one)
	}
	if err := settle(ctx, time.Second); err != nil { // it prints
		return err
	}
	stop()
	_ = monitor.Wait() // it was killed
	spread("apply_join_us", joins, "us")
	figure("nft_ops_per_join", float64(strings.Count(changes.String(), "add element"))/rounds, "elements")
	return nil
}

// settle waits.
func settle(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// gather lets count simulated machines enrol.
func gather(ctx context.Context, n *network, count int) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := n.b.Command(ctx, self, "crowd", n.server.URL, n.server.SetupKeyFile, strconv.Itoa(count))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("enrol %d machines: %w\n%s", count, err, out)
	}
	return nil
}

// crowd enrols count machines at url.
func crowd(url, keyFile string, count int) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("read the setup key: %w", err)
	}
	// One server, which this program has started.
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: crowdWorkers, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	config := swarm.Config{SDK: sdk.Config{URL: url, HTTPClient: client}, SetupKey: strings.TrimSpace(string(key))}
	var next atomic.Int64
	errs := make([]error, crowdWorkers)
	var workers sync.WaitGroup
	for i := range crowdWorkers {
		workers.Go(func() {
			for next.Add(1) <= int64(count) && errs[i] == nil {
				_, errs[i] = swarm.Enroll(context.Background(), config)
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// sees waits until a machine shows count peers.
func sees(ctx context.Context, m *fleet.Machine, count int) error {
	for range 600 {
		out, err := m.Wattle(ctx, "status", "--json")
		if err == nil && strings.Count(out, `"public_key"`) > count && strings.Contains(out, `"ready"`) {
			return nil
		}
		if err := settle(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the machine does not see %d others\n%s", count, m.Log())
}

// processor returns the processor time that a process has used.
func processor(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of a process: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d shows no processor time", pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 (proc(5))
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}
