// Program hello is a peer of its own: it greets whoever asks it, or asks another.
//
//	hello -name greeter                  serve, until interrupted
//	hello -name guest -ask greeter       ask, and print the greeting
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/wattlenet/wattle/agent/embed"
)

func main() {
	url := flag.String("management-url", os.Getenv("WATTLE_MANAGEMENT_URL"), "address of the control plane")
	pin := flag.String("ca-pin", os.Getenv("WATTLE_CA_PIN"), "pin of its certificate authority")
	keyFile := flag.String("setup-key-file", "setup-key", "file that holds a setup key")
	name := flag.String("name", "hello", "name in the network")
	ask := flag.String("ask", "", "name of the peer to ask; empty serves")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	key, err := os.ReadFile(*keyFile)
	if err == nil {
		err = run(ctx, embed.Config{ManagementURL: *url, CAPin: *pin, SetupKey: strings.TrimSpace(string(key)), Name: *name}, *ask)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, c embed.Config, ask string) (err error) {
	peer, err := embed.Join(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	if ask != "" {
		return greet(ctx, peer, ask)
	}
	return serve(ctx, peer)
}

func serve(ctx context.Context, peer *embed.Peer) error {
	listener, err := peer.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "hello from", peer.Name())
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Println("serving as", peer.Name())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func greet(ctx context.Context, peer *embed.Peer, name string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: peer.Dial}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+"/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
