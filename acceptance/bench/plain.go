package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// buildPlain builds unmodified wireguard-go, in the version that this module pins.
func buildPlain(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "wireguard-go")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "golang.zx2c4.com/wireguard")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build wireguard-go: %w\n%s", err, out)
	}
	return program, nil
}

// A plainPeer is one end of a tunnel of unmodified wireguard-go.
type plainPeer struct {
	place    fleet.Place
	device   string
	overlay  netip.Addr
	underlay netip.Addr
	key      *ecdh.PrivateKey
	cmd      *exec.Cmd
}

// newPlainPeer starts wireguard-go at a place. The process ends with ctx.
func newPlainPeer(ctx context.Context, program string, place fleet.Place, device string, overlay, underlay netip.Addr) (*plainPeer, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	p := &plainPeer{place: place, device: device, overlay: overlay, underlay: underlay, key: key}
	p.cmd = place.Command(ctx, program, "-f", device)
	var said bytes.Buffer // a banner, and why it failed
	p.cmd.Stderr = &said
	p.cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start wireguard-go: %w", err)
	}
	for range 200 {
		if _, err = os.Stat(p.socket()); err == nil {
			return p, nil
		}
		time.Sleep(10 * time.Millisecond) // the socket appears when the device is there
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // ends the writing to said
	return nil, fmt.Errorf("wireguard-go made no socket: %w\n%s", err, &said)
}

func (p *plainPeer) socket() string { return "/var/run/wireguard/" + p.device + ".sock" }

// connect configures the device for one peer, with the MTU that the agents use.
func (p *plainPeer) connect(ctx context.Context, other *plainPeer, port, mtu int) error {
	conn, err := net.Dial("unix", p.socket())
	if err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	defer func() { _ = conn.Close() }() // the answer was read before
	_, err = fmt.Fprintf(conn, "set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s\nallowed_ip=%s/32\n\n",
		hex.EncodeToString(p.key.Bytes()), port, hex.EncodeToString(other.key.PublicKey().Bytes()),
		netip.AddrPortFrom(other.underlay, uint16(port)), other.overlay)
	if err != nil {
		return fmt.Errorf("configure wireguard-go: %w", err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "errno=0" {
		return errors.Join(fmt.Errorf("configure wireguard-go: it answered %q", answer), err)
	}
	for _, args := range [][]string{
		{"link", "set", p.device, "mtu", strconv.Itoa(mtu), "up"},
		{"addr", "add", p.overlay.String() + "/24", "dev", p.device},
	} {
		if out, err := p.place.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
