package embed_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/embed"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/sdk"
)

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// reachable skips where two peers of one machine have no way to each other: the
// control plane of the test has no relay.
func reachable(t *testing.T) {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.IsGlobalUnicast()
	}) {
		t.Skip("SKIPPED: this machine has no address but the loopback's")
	}
}

func join(t *testing.T, plane *controlplanetest.Server, name, state string) *embed.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	peer, err := embed.Join(ctx, embed.Config{ManagementURL: plane.URL, SetupKey: plane.SetupKey, Name: name, StateDir: state})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := peer.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return peer
}

func TestProgramsTalk(t *testing.T) {
	reachable(t)
	plane := controlplanetest.New(t)
	billing, client := join(t, plane, "billing", ""), join(t, plane, "client", "")
	if !strings.HasPrefix(billing.Name(), "billing.") || len(billing.Addresses()) == 0 {
		t.Errorf("billing is %q at %v", billing.Name(), billing.Addresses())
	}

	listener, err := billing.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello "+r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")])
	})}
	running.Go(func() { _ = server.Serve(listener) })
	transport := &http.Transport{DialContext: client.Dial}
	web := &http.Client{Transport: transport, Timeout: patience}
	for _, host := range []string{"billing", billing.Name(), billing.Addresses()[0].String(), "[" + billing.Addresses()[1].String() + "]"} {
		answer, err := web.Get("http://" + host + "/")
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		from := client.Addresses()[0].String()
		if strings.HasPrefix(host, "[") {
			from = "[" + client.Addresses()[1].String() + "]"
		}
		if string(body) != "hello "+from {
			t.Errorf("%s: %q, want the address %s", host, body, from)
		}
	}
	transport.CloseIdleConnections()
	_ = server.Close()
	running.Wait()

	packets, err := billing.ListenPacket("udp", ":5353")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		buf := make([]byte, 100)
		if n, from, err := packets.ReadFrom(buf); err == nil {
			_, _ = packets.WriteTo(buf[:n], from)
		}
	})
	question, err := client.Dial(t.Context(), "udp", "billing:5353")
	if err != nil {
		t.Fatal(err)
	}
	_ = question.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(question, "question")
	buf := make([]byte, 100)
	if n, err := question.Read(buf); err != nil || string(buf[:n]) != "question" {
		t.Errorf("answer %q, %v", buf[:n], err)
	}
	_ = packets.Close()
	running.Wait()

	for to, want := range map[string]error{"nobody:80": embed.ErrNoName, "192.0.2.200:80": embed.ErrElsewhere} {
		if _, err := client.Dial(t.Context(), "tcp", to); !errors.Is(err, want) {
			t.Errorf("dial %s: %v, want %v", to, err, want)
		}
	}
}

func TestStateMakesTheSamePeer(t *testing.T) {
	plane := controlplanetest.New(t)
	folder := t.TempDir()
	first := join(t, plane, "keeps", folder)
	address := first.Addresses()[0]
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	plane.SetupKey = "" // not needed any more
	again := join(t, plane, "keeps", folder)
	if again.Addresses()[0] != address {
		t.Errorf("the address was %v and is %v", address, again.Addresses()[0])
	}
}

func TestPeerWithoutStateIsDeleted(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := join(t, plane, "passes", "")
	count := func() (n int) {
		for _, err := range plane.Client.Peers(t.Context(), sdk.ListPeersOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if got := count(); got != 1 {
		t.Fatalf("%d peers, want one", got)
	}
	for range 2 {
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(); got != 0 {
		t.Errorf("%d peers are left", got)
	}
	if _, err := peer.Dial(t.Context(), "tcp", "passes:80"); err == nil {
		t.Error("a closed peer dials")
	}
}

func TestWrongKeyLeavesNothing(t *testing.T) {
	plane := controlplanetest.New(t)
	t.Setenv("TMPDIR", t.TempDir())
	_, err := embed.Join(t.Context(), embed.Config{ManagementURL: plane.URL, SetupKey: "wtk_wrong"})
	if err == nil || !strings.Contains(err.Error(), "setup key") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// TestImports keeps out what an importer would have to replace, or to compile
// with C.
func TestImports(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{len .CgoFiles}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		path, cgo, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(path, "rosenpass") || strings.Contains(path, "circl") || cgo != "0" {
			t.Errorf("the package imports %s (%s cgo files)", path, cgo)
		}
	}
}
