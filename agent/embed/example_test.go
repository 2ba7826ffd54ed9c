package embed_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/wattlenet/wattle/agent/embed"
)

// A web server that only machines of the network can reach.
func ExampleJoin() {
	peer, err := embed.Join(context.Background(), embed.Config{
		ManagementURL: "https://mesh.example:8443",
		CAPin:         os.Getenv("WATTLE_CA_PIN"),
		SetupKey:      os.Getenv("WATTLE_SETUP_KEY"),
		Name:          "billing",
		StateDir:      "/var/lib/billing/wattle",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	listener, err := peer.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.FileServerFS(os.DirFS("site"))))
}

// An HTTP client whose requests go over the network.
func ExamplePeer_Dial() {
	peer, err := embed.Join(context.Background(), embed.Config{
		ManagementURL: "https://mesh.example:8443",
		SetupKey:      os.Getenv("WATTLE_SETUP_KEY"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	client := &http.Client{Transport: &http.Transport{DialContext: peer.Dial}}
	answer, err := client.Get("http://billing/")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(string(body), err)
}
