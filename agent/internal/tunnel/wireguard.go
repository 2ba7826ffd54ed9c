package tunnel

import (
	"fmt"
	"log/slog"

	"golang.zx2c4.com/wireguard/device"
)

// wireguard is the implementation of the protocol, told in its own text
// (https://www.wireguard.com/xplatform/#configuration-protocol).
type wireguard interface {
	IpcSet(text string) error
	IpcGet() (string, error)

	// Rekey ends the sessions with a peer.
	Rekey(key PublicKey)

	// SetKey replaces the private key; Handshake begins a new session with a peer
	// beside the present one.
	SetKey(private PrivateKey) error
	Handshake(key PublicKey) error

	// Wait returns a channel that is closed by Close, and when the interface is gone.
	Wait() chan struct{}
	Close()
}

// inProcess is wireguard-go.
type inProcess struct{ *device.Device }

func (w inProcess) SetKey(private PrivateKey) error {
	return w.IpcSet(newUAPI().set("private_key", private.hex()).String())
}

func (w inProcess) Handshake(key PublicKey) error {
	if peer := w.LookupPeer(device.NoisePublicKey(key)); peer != nil {
		return peer.SendHandshakeInitiation(false)
	}
	return nil
}

func (w inProcess) Rekey(key PublicKey) {
	if peer := w.LookupPeer(device.NoisePublicKey(key)); peer != nil {
		peer.ExpireCurrentKeypairs()
	}
}

// quiet hands the device's complaints to log. Its chatter per packet is not wanted.
func quiet(log *slog.Logger) *device.Logger {
	return &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf: func(format string, args ...any) {
			log.Debug("wireguard device", "report", fmt.Sprintf(format, args...))
		},
	}
}
