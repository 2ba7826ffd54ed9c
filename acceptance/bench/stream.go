package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// The measured end of a TCP stream is this program itself, started again at a place of the lab:
//
//	bench sink ADDRESS             accepts one connection after another and throws away what comes
//	bench source ADDRESS DURATION  sends for that long and prints the bytes that the other end has read, a second
//	bench pion ADDRESS SECRET      is a TURN server to compare with
//	bench crowd URL FILE COUNT     enrols simulated machines with the setup key in FILE
//	bench nat-table                renders the figures of net/nat_matrix, from its input, as a page
//
// The sink answers each connection with the number of bytes it read, so what sits in buffers is not counted.
func role(args []string) (bool, error) {
	switch {
	case len(args) == 2 && args[0] == "sink":
		return true, sink(args[1])
	case len(args) == 3 && args[0] == "source":
		length, err := time.ParseDuration(args[2])
		if err != nil {
			return true, fmt.Errorf("source: %w", err)
		}
		return true, source(args[1], length)
	case len(args) == 3 && args[0] == "pion":
		return true, pionServer(args[1], args[2])
	case len(args) == 4 && args[0] == "crowd":
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return true, fmt.Errorf("crowd: %w", err)
		}
		return true, crowd(args[1], args[2], count)
	case len(args) == 1 && args[0] == "nat-table":
		return true, natTable(os.Stdin, os.Stdout)
	case len(args) > 0:
		flag.Usage()
		return true, errors.New("unknown arguments " + strings.Join(args, " "))
	default:
		return false, nil
	}
}

func sink(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		n, err := io.Copy(io.Discard, onlyReader{conn})
		if err == nil {
			_, err = fmt.Fprintln(conn, n)
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			fmt.Fprintln(os.Stderr, "sink:", err)
		}
	}
}

// onlyReader hides the connection's splice path, which would measure something else.
type onlyReader struct{ io.Reader }

func source(address string, length time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // all that matters was read before
	buffer := make([]byte, 1<<20)
	begin := time.Now()
	for time.Since(begin) < length {
		if _, err := conn.Write(buffer); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return fmt.Errorf("end the stream: %w", err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(answer)), 64)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	fmt.Println(n / time.Since(begin).Seconds())
	return nil
}

// throughput sends one TCP stream from a to address at b for streamLength and returns bytes a second.
func throughput(ctx context.Context, a, b fleet.Place, address string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	listener := b.Command(ctx, self, "sink", address)
	listener.Stderr = os.Stderr
	if err := listener.Start(); err != nil {
		cancel()
		return 0, fmt.Errorf("start the sink: %w", err)
	}
	defer func() {
		cancel()
		_ = listener.Wait() // it was killed
	}()
	for attempt := 0; ; attempt++ {
		sender := a.Command(ctx, self, "source", address, streamLength.String())
		var stderr strings.Builder
		sender.Stderr = &stderr
		out, err := sender.Output()
		if err == nil {
			return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		}
		if attempt == 50 || !strings.Contains(stderr.String(), "refused") {
			return 0, fmt.Errorf("source: %w\n%s", err, stderr.String())
		}
		time.Sleep(20 * time.Millisecond) // the sink is not listening yet
	}
}
