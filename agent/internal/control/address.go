package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ParseAddress returns the address of a control plane in its one form:
// https://host:port without a path. Plain HTTP shows the setup key and lets
// anybody on the way change the map, so beyond this machine it needs insecure.
// The error is a sentence for the user.
func ParseAddress(text string, insecure bool) (string, error) {
	parsed, err := url.Parse(text)
	switch {
	case err != nil || parsed.Hostname() == "" || parsed.Scheme != "https" && parsed.Scheme != "http":
		return "", fmt.Errorf("management URL %q is not the address of a control plane; write it as https://host:port", hideUser(text))
	case parsed.User != nil:
		return "", fmt.Errorf("management URL %q holds a user or a password, which nobody asks for; write it as https://%s", hideUser(text), parsed.Host)
	case strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		return "", fmt.Errorf("management URL %q has something behind the host; write it as %s://%s", text, parsed.Scheme, parsed.Host)
	case parsed.Scheme == "http" && !insecure && !onThisMachine(parsed.Hostname()):
		return "", fmt.Errorf("management URL %q would send the setup key unencrypted; write it as https://%s, or say --insecure-http", text, parsed.Host)
	}
	return strings.ToLower(parsed.Scheme + "://" + parsed.Host), nil
}

func onThisMachine(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// hideUser cuts what may be a password out of an address.
func hideUser(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if at := strings.LastIndex(rest, "@"); found && at >= 0 {
		return scheme + "://" + rest[at+1:]
	}
	return text
}

// ParsePin returns a pin in its one form, "sha256:" and 64 hexadecimal digits
// in lower case. The error is a sentence for the user.
func ParsePin(text string) (string, error) {
	pin := strings.ToLower(strings.TrimSpace(text))
	digits, found := strings.CutPrefix(pin, "sha256:")
	if raw, err := hex.DecodeString(digits); !found || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("CA pin %q is not sha256: and 64 hexadecimal digits; take it from the server's credentials", text)
	}
	return pin, nil
}
