//go:build !linux && !darwin && !freebsd && !windows

package portmap

import "errors"

// findGateway is not known for this system: no port is mapped.
func findGateway() (Gateway, error) {
	return Gateway{}, errors.New("the gateway cannot be found on this system")
}
