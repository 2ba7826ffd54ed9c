package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// joinLine is what the benchmark of the map engine prints for one size.
var joinLine = regexp.MustCompile(`(?m)^BenchmarkJoin/(\d+)\S*\s+\d+\s+([\d.]+) ns/op`)

// join prints the server's time for one peer that joins a network: the map is changed, the deltas are encoded.
func join(ctx context.Context, _ config) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkJoin$", "-count", "5", "./controlplane/internal/netmap")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	byPeers := map[string][]float64{}
	for _, m := range joinLine.FindAllSubmatch(out, -1) {
		ns, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return fmt.Errorf("read %q: %w", m[0], err)
		}
		byPeers[string(m[1])] = append(byPeers[string(m[1])], ns/1000)
	}
	if len(byPeers) == 0 {
		return errors.New("the benchmark of the map engine printed no BenchmarkJoin line")
	}
	for _, peers := range []string{"1000", "10000"} {
		if len(byPeers[peers]) > 0 {
			spread("join_"+peers+"_us", byPeers[peers], "us")
		}
	}
	return nil
}
