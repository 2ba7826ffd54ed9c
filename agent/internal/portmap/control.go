package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// controlPort is that of NAT-PMP (RFC 6886, section 3.1) and PCP (RFC 6887,
// section 19.1).
const controlPort = 5351

const (
	// firstRepeat is that of RFC 6886, section 3.1; it doubles.
	firstRepeat = 250 * time.Millisecond

	// maximumControl is more than any answer (RFC 6887, section 7: 1,100 bytes).
	maximumControl = 1100
)

var errNoAnswer = errors.New("the gateway does not answer")

// ask sends a request to the gateway until read accepts an answer. An answer
// that read does not know for one of ours (false) is passed over; an error of
// read ends the wait.
func ask(ctx context.Context, gateway netip.AddrPort, request []byte, read func(answer []byte) (bool, error)) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", gateway.String()) // connected: only the gateway is heard
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing to lose
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	answer := make([]byte, maximumControl)
	for repeat := firstRepeat; ctx.Err() == nil; repeat *= 2 {
		if _, err := conn.Write(request); err != nil {
			return fmt.Errorf("ask the gateway: %w", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(repeat)); err != nil {
			return err
		}
		for {
			n, err := conn.Read(answer)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				break
			}
			if err != nil { // no such port: an ICMP error
				return fmt.Errorf("%w: %w", errNoAnswer, err)
			}
			if ours, err := read(answer[:n]); ours || err != nil {
				return err
			}
		}
	}
	return errNoAnswer
}
