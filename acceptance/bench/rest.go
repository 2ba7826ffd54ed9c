package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// Sizes of the REST benchmark.
const (
	restCallers  = 10
	restPolicies = 1000
	restTurn     = 2 * time.Second // how long callers create in one round
	restLists    = 20              // how often each caller reads the list in one round
)

// rest prints what the management API does on SQLite, asked over HTTPS with kept connections: durable creates in a second
// by one caller and by ten, and the time of a long list that ten callers read at once.
func rest(ctx context.Context, c config) error {
	server, err := fleet.StartServer(ctx, fleet.ServerConfig{
		Bin: c.bin, Dir: filepath.Join(c.dir, "server"), On: fleet.Here{},
		Address: "127.0.0.1", Port: "18444", Relay: "13479",
	})
	if err != nil {
		return err
	}
	return errors.Join(restFigures(ctx, server, max(3, c.rounds/2)), server.Stop())
}

func restFigures(ctx context.Context, server *fleet.Server, rounds int) error {
	callers, err := newCallers(ctx, server)
	if err != nil {
		return err
	}
	for _, n := range []int{1, restCallers} {
		if err := restCreates(ctx, callers[:n], rounds); err != nil {
			return err
		}
	}
	for i := range restPolicies {
		body := fmt.Sprintf(`{"name":"bench-%d","rules":[{"name":"r","sources":["All"],"destinations":["All"],"protocol":"tcp","ports":["%d"]}]}`, i, i+1)
		if err := callers[i%restCallers].do(ctx, http.MethodPost, "/api/policies", body, nil); err != nil {
			return err
		}
	}
	// Between two lists nothing changes, or each finds that something did.
	if err := restReads(ctx, "rest_list_1000_policies", callers, rounds, nil); err != nil {
		return err
	}
	number := 0
	return restReads(ctx, "rest_list_1000_policies_after_change", callers, rounds, func() error {
		number++
		return callers[0].do(ctx, http.MethodPost, "/api/groups", fmt.Sprintf(`{"name":"between-%d"}`, number), nil)
	})
}

// restCreates prints how many groups callers create in a second, and the time that one in a hundred exceeds.
func restCreates(ctx context.Context, callers []*caller, rounds int) error {
	var rates, slow []float64
	for round := range rounds {
		begin := time.Now()
		times, err := together(callers, func(c *caller) error {
			for i := 0; time.Since(begin) < restTurn; i++ {
				if err := c.do(ctx, http.MethodPost, "/api/groups", fmt.Sprintf(`{"name":"bench-%d-%d-%s-%d"}`, len(callers), round, c.name, i), nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		rates = append(rates, float64(len(times))/time.Since(begin).Seconds())
		slow = append(slow, percentile(times, 0.99))
	}
	spread(fmt.Sprintf("rest_create_groups_per_s_%d", len(callers)), rates, "/s")
	figure(fmt.Sprintf("rest_create_groups_p99_ms_%d", len(callers)), median(slow), "ms")
	return nil
}

// restReads prints how long a list of all policies takes when all callers ask at once. before runs ahead of each volley;
// nil for nothing.
func restReads(ctx context.Context, name string, callers []*caller, rounds int, before func() error) error {
	var middle, slow []float64
	for range rounds {
		var all []float64
		for range restLists {
			if before != nil {
				if err := before(); err != nil {
					return err
				}
			}
			times, err := together(callers, func(c *caller) error {
				return c.do(ctx, http.MethodGet, "/api/policies", "", func(body []byte) error {
					if !bytes.HasPrefix(body, []byte("[")) || len(body) < restPolicies*100 {
						return fmt.Errorf("a list of %d bytes", len(body))
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
			all = append(all, times...)
		}
		middle, slow = append(middle, median(all)), append(slow, percentile(all, 0.99))
	}
	spread(name+"_ms", middle, "ms")
	figure(name+"_p99_ms", median(slow), "ms")
	return nil
}

// A caller has a token and a connection of its own, as ten programs have.
type caller struct {
	name, url, token string
	client           *http.Client
	took             []float64 // milliseconds, of each request since the last together
}

// newCallers makes restCallers callers, each with a token that the first one made.
func newCallers(ctx context.Context, server *fleet.Server) ([]*caller, error) {
	authority, err := os.ReadFile(server.Profile + ".ca.pem")
	if err != nil {
		return nil, fmt.Errorf("read the certificate of the control plane's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("the control plane's authority left no certificate")
	}
	callers := make([]*caller, restCallers)
	var owner struct{ ID string }
	for i := range callers {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
		callers[i] = &caller{name: fmt.Sprint(i), url: server.URL, token: server.Token, client: &http.Client{Transport: transport}}
		if i == 0 {
			err = callers[0].do(ctx, http.MethodGet, "/api/users/current", "", func(body []byte) error { return json.Unmarshal(body, &owner) })
		} else {
			var made struct {
				Token string `json:"plain_token"`
			}
			body := fmt.Sprintf(`{"name":"bench-%d","expires_in":1}`, i)
			err = callers[0].do(ctx, http.MethodPost, "/api/users/"+owner.ID+"/tokens", body, func(body []byte) error { return json.Unmarshal(body, &made) })
			callers[i].token = made.Token
		}
		if err != nil {
			return nil, err
		}
	}
	return callers, nil
}

// together runs fn for all callers at once and returns how long each of their requests took.
func together(callers []*caller, fn func(*caller) error) (times []float64, err error) {
	var wait sync.WaitGroup
	faults := make([]error, len(callers))
	for i, c := range callers {
		c.took = c.took[:0]
		wait.Go(func() { faults[i] = fn(c) })
	}
	wait.Wait()
	for _, c := range callers {
		times = append(times, c.took...)
	}
	return times, errors.Join(faults...)
}

// do sends one request and hands the whole answer to read.
func (c *caller) do(ctx context.Context, method, path, body string, read func([]byte) error) error {
	begin := time.Now()
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Authorization", "Token "+c.token)
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	c.took = append(c.took, float64(time.Since(begin).Microseconds())/1000)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s", method, path, response.Status, answer)
	}
	if read == nil {
		return nil
	}
	return read(answer)
}

// percentile returns the smallest of values that part of them do not exceed; values must not be empty.
func percentile(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
}
