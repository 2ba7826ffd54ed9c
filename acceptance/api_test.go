//go:build linux

package acceptance

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func api(s *story, ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 || len(args) == 3, "api METHOD PATH [BODY|@FILE]")
	s.judge(ts, neg, s.request(ts, args))
}

// request calls the API as the words of a script say. An answer of 400 or more
// is an error.
func (s *story) request(ts *testscript.TestScript, args []string) result {
	var body []byte
	if len(args) == 3 {
		body = []byte(args[2])
		if file, isFile := strings.CutPrefix(args[2], "@"); isFile {
			body = []byte(ts.ReadFile(file))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	status, answer, err := s.call(ctx, args[0], args[1], body)
	s.changed = time.Now()
	if err == nil && status >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: status %d", args[0], args[1], status)
	}
	return result{stdout: answer, err: err}
}

// call speaks to the control plane from its own host.
func (s *story) call(ctx context.Context, method, path string, body []byte) (status int, answer string, err error) {
	h, ok := s.lab.Find(s.server)
	if !ok {
		return 0, "", errors.New("no host serves: say serve HOST first")
	}
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = h.Do(func() error {
			conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address) // on this thread
			return err
		})
		return conn, err
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: pinned(s.profile.Pin), DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, method, s.profile.URL+path, strings.NewReader(string(body)))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Token "+s.profile.Token)
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), errors.Join(err, response.Body.Close())
}

// pinned accepts a chain that holds the certificate of the pin, and a leaf
// that verifies against it.
func pinned(pin string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, with the pin as the only root
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, others := x509.NewCertPool(), x509.NewCertPool()
			found := false
			for _, certificate := range state.PeerCertificates {
				sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
				if "sha256:"+hex.EncodeToString(sum[:]) == pin {
					roots.AddCert(certificate)
					found = true
				}
				others.AddCert(certificate)
			}
			if !found {
				return errors.New("no certificate of the server has the pin " + pin)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, DNSName: state.ServerName})
			return err
		},
	}
}

// overlayAddress asks the API for the overlay address of the peer that
// enrolled from a host.
func (s *story) overlayAddress(ts *testscript.TestScript, host string) string {
	_, answer, err := s.call(context.Background(), http.MethodGet, "/api/peers", nil)
	ts.Check(err)
	ip, err := pick(answer, "[hostname="+host+"].ip")
	ts.Check(err)
	return ip
}

func field(_ *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) == 2, "field VAR PATH")
	value, err := pick(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	ts.Setenv(args[0], value)
}

// pick walks through JSON: "name" into an object, "0" or "[key=value]" into an
// array. A string is returned without quotes, anything else as JSON.
func pick(text, path string) (string, error) {
	var at any
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		return "", fmt.Errorf("not JSON: %w: %s", err, text)
	}
	for step := range strings.SplitSeq(path, ".") {
		next, ok := descend(at, step)
		if !ok {
			return "", fmt.Errorf("%s: there is no %s in %s", path, step, text)
		}
		at = next
	}
	if s, ok := at.(string); ok {
		return s, nil
	}
	out, err := json.Marshal(at)
	return string(out), err
}

func descend(at any, step string) (any, bool) {
	switch at := at.(type) {
	case map[string]any:
		next, ok := at[step]
		return next, ok
	case []any:
		if i, err := strconv.Atoi(step); err == nil && 0 <= i && i < len(at) {
			return at[i], true
		}
		key, want, _ := strings.Cut(strings.Trim(step, "[]"), "=")
		for _, element := range at {
			if value, ok := descend(element, key); ok && fmt.Sprint(value) == want {
				return element, true
			}
		}
	}
	return nil, false
}
