package function

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

var pin = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// upCommand is the command line with which a machine joins. An empty pin
// trusts the system's authorities.
func upCommand(server, caPin, keyFile string) (command string, argument int64, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", 0, fmt.Errorf("%q is not the address of a control plane: write it as https://host:port", server)
	}
	if caPin != "" && !pin.MatchString(caPin) {
		return "", 1, fmt.Errorf("%q is no pin: write it as sha256: and 64 hexadecimal digits, or leave it empty for a certificate that the system trusts", caPin)
	}
	if !strings.HasPrefix(keyFile, "/") {
		return "", 2, fmt.Errorf("%q is not the full path of a file", keyFile)
	}
	words := []string{"wattle", "up", "--management-url", server}
	if caPin != "" {
		words = append(words, "--ca-pin", caPin)
	}
	words = append(words, "--setup-key-file", keyFile)
	for i, word := range words {
		words[i] = quoted(word)
	}
	return strings.Join(words, " "), 0, nil
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted is a word for a POSIX shell.
func quoted(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
