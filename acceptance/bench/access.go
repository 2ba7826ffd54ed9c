package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// quiet is how long no answer comes until a flow is taken for cut; the aim for that is 2 s.
const quiet = 3 * time.Second

// echoLine is what `ping` prints for an answer of whom it asked, and not of somebody on the way.
var echoLine = regexp.MustCompile(` bytes from .* icmp_seq=`)

// access prints how long answers still come after a policy is taken away under traffic, from the moment at which the write is
// sent, and how long it takes until they come once it is given back.
func access(ctx context.Context, c config) error {
	return onLine(ctx, c, internet, func(n *network, one *contestant) (err error) {
		client, err := n.client()
		if err != nil {
			return err
		}
		policies, err := client.ListPolicies(ctx, sdk.ListPoliciesOptions{Name: "Default"})
		if err != nil || len(policies) != 1 {
			return fmt.Errorf("find the policy of a new network among %d: %w", len(policies), err)
		}
		answers, end, err := echoes(ctx, one)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
		var cut, granted []float64
		for range c.rounds {
			if err := answers.flow(ctx); err != nil {
				return err
			}
			begin := time.Now()
			if err := client.DeletePolicy(ctx, policies[0].Id); err != nil {
				return err
			}
			last, err := answers.last(ctx, begin)
			if err != nil {
				return err
			}
			cut = append(cut, last.Seconds()*1000)
			begin = time.Now()
			policy, err := client.CreatePolicy(ctx, everybody(policies[0].Rules))
			if err != nil {
				return err
			}
			policies[0].Id = policy.Id
			first, err := answers.next(ctx)
			if err != nil {
				return err
			}
			granted = append(granted, first.Sub(begin).Seconds()*1000)
		}
		figure("policy_cut_ms", median(cut), "ms")
		figure("policy_cut_worst_ms", slices.Max(cut), "ms")
		figure("policy_grant_ms", median(granted), "ms")
		figure("policy_grant_worst_ms", slices.Max(granted), "ms")
		return nil
	})
}

// everybody is the request for a policy with one rule between the groups of another one's.
func everybody(rules []api.PolicyRule) api.PolicyRequest {
	ids := func(groups *[]api.GroupReference) (ids []string) {
		for _, g := range *groups {
			ids = append(ids, g.Id)
		}
		return ids
	}
	rule := api.PolicyRuleRequest{Name: "all"}
	rule.Sources.Set(ids(rules[0].Sources))
	rule.Destinations.Set(ids(rules[0].Destinations))
	return api.PolicyRequest{Name: "Default", Rules: []api.PolicyRuleRequest{rule}}
}

// An echoed is when the answers of a `ping` come.
type echoed chan time.Time

// echoes sends an echo every 10 ms until end is called.
func echoes(ctx context.Context, one *contestant) (answers echoed, end func() error, err error) {
	ping := one.a.Command(ctx, "ping", "-n", "-i", "0.01", one.to.Addr().String())
	out, err := ping.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("ping: %w", err)
	}
	if err := ping.Start(); err != nil {
		return nil, nil, fmt.Errorf("ping: %w", err)
	}
	answers = make(echoed, 1<<16) // hours: nobody reads between two measurements
	go func() {
		defer close(answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if echoLine.Match(lines.Bytes()) {
				answers <- time.Now()
			}
		}
	}()
	return answers, func() error {
		err := ping.Process.Kill()
		for range answers { //nolint:revive // until it has ended
		}
		_ = ping.Wait() // it was killed
		return err
	}, nil
}

// next waits for the next answer.
func (e echoed) next(ctx context.Context) (time.Time, error) {
	select {
	case at, more := <-e:
		if !more {
			return at, errors.New("ping has ended")
		}
		return at, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

// flow waits until answers have come for a second.
func (e echoed) flow(ctx context.Context) error {
	first, err := e.next(ctx)
	for at := first; err == nil && at.Sub(first) < time.Second; {
		at, err = e.next(ctx)
	}
	return err
}

// last waits until no answer comes any more, and returns how long after begin the last one came; 0: none did.
func (e echoed) last(ctx context.Context, begin time.Time) (after time.Duration, err error) {
	for {
		silence, cancel := context.WithTimeoutCause(ctx, quiet, errSilent)
		at, err := e.next(silence)
		cancel()
		if errors.Is(err, errSilent) {
			return after, nil
		}
		if err != nil {
			return 0, err
		}
		if after = max(after, at.Sub(begin)); after > time.Minute {
			return 0, errors.New("answers come without a policy")
		}
	}
}

var errSilent = errors.New("no answer came")

// client calls the control plane from its own host.
func (n *network) client() (*sdk.Client, error) {
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = n.serverHost.Do(func() error {
			conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address) // on this thread
			return err
		})
		return conn, err
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // this program has started it
	return sdk.New(sdk.Config{URL: n.server.URL, Token: n.server.Token, HTTPClient: &http.Client{Transport: transport}})
}
