package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"syscall"

	"github.com/pion/logging"
	"github.com/pion/turn/v3"
)

// pionServer is a plain pion/turn server over UDP, as its examples build it, with TURN REST credentials:
//
//	bench pion ADDRESS SECRET
func pionServer(address, secret string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("pion: %w", err)
	}
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		return fmt.Errorf("pion: %w", err)
	}
	log := logging.NewDefaultLoggerFactory()
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:         "wattle",
		AuthHandler:   turn.LongTermTURNRESTAuthHandler(secret, log.NewLogger("auth")),
		LoggerFactory: log,
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(host), Address: host},
		}},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("pion: %w", err), conn.Close())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Close()
}
