package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// discoverAddr is the group of SSDP (UPnP Device Architecture 1.1, section 1).
var discoverAddr = netip.MustParseAddrPort("239.255.255.250:1900")

const (
	// maximumUPnP bounds what is read of a description or an answer.
	maximumUPnP = 256 << 10

	codeConflict  = 718 // ConflictInMappingEntry
	codePermanent = 725 // OnlyPermanentLeasesSupported

	// portAttempts bounds the search for an external port that is free.
	portAttempts = 4
)

// The device that is searched for, and the services of it that map ports, the
// preferred first.
const igdDevice = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

var igdServices = []string{
	"urn:schemas-upnp-org:service:WANIPConnection:2",
	"urn:schemas-upnp-org:service:WANIPConnection:1",
	"urn:schemas-upnp-org:service:WANPPPConnection:1",
}

// upnp is a client of an InternetGatewayDevice. It speaks to the gateway's own
// address only, wherever an answer tries to send it, and through no proxy.
type upnp struct {
	gateway  Gateway
	discover netip.AddrPort
	web      *http.Client
	service  igdService // found by the first add
	external uint16     // port that add has got
}

// igdService is where and how the gateway is told to map.
type igdService struct {
	control *url.URL
	kind    string
}

func newUPnP(gateway Gateway, discover netip.AddrPort) *upnp {
	dialer := &net.Dialer{Control: mark.Socket}
	return &upnp{gateway: gateway, discover: discover, web: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if at, err := netip.ParseAddrPort(address); err != nil || at.Addr() != gateway.Addr {
					return nil, fmt.Errorf("%s is not the gateway %s", address, gateway.Addr)
				}
				return dialer.DialContext(ctx, network, address)
			},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *upnp) add(ctx context.Context, port, wanted uint16) (Mapping, error) {
	if c.service.control == nil {
		location, err := c.search(ctx)
		if err != nil {
			return Mapping{}, err
		}
		if c.service, err = c.describe(ctx, location); err != nil {
			return Mapping{}, err
		}
	}
	answer, err := c.call(ctx, "GetExternalIPAddress")
	if err != nil {
		return Mapping{}, err
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(answer.Address))
	if err != nil {
		return Mapping{}, fmt.Errorf("the gateway's own address: %w", err)
	}
	life := lifetime
	for attempt := range portAttempts {
		external := wanted + uint16(attempt)
		_, err = c.call(ctx, "AddPortMapping",
			"NewRemoteHost", "", "NewExternalPort", strconv.Itoa(int(external)), "NewProtocol", "UDP",
			"NewInternalPort", strconv.Itoa(int(port)), "NewInternalClient", c.gateway.Local.String(), "NewEnabled", "1",
			"NewPortMappingDescription", "wattle", "NewLeaseDuration", strconv.Itoa(int(life/time.Second)))
		var refusal *igdError
		switch {
		case errors.As(err, &refusal) && refusal.code == codePermanent && life != 0:
			life, wanted = 0, wanted-1 // the same port, until it is deleted
		case errors.As(err, &refusal) && refusal.code == codeConflict:
		case err != nil:
			return Mapping{}, err
		default:
			c.external = external
			m := Mapping{External: netip.AddrPortFrom(addr, external), Lifetime: lifetime}
			return m, usable(m)
		}
	}
	return Mapping{}, err
}

func (c *upnp) remove(ctx context.Context, _ uint16) error {
	_, err := c.call(ctx, "DeletePortMapping", "NewRemoteHost", "", "NewExternalPort", strconv.Itoa(int(c.external)), "NewProtocol", "UDP")
	return err
}

// search looks for the gateway's description (UPnP Device Architecture 1.1, section 1.3).
func (c *upnp) search(ctx context.Context) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	config := net.ListenConfig{Control: mark.Socket}
	packets, err := config.ListenPacket(ctx, "udp4", netip.AddrPortFrom(c.gateway.Local, 0).String())
	if err != nil {
		return nil, err
	}
	defer packets.Close() //nolint:errcheck // nothing to lose
	conn, ok := packets.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("search for the gateway: %T is no UDP socket", packets)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	request := "M-SEARCH * HTTP/1.1\r\nHOST: " + c.discover.String() + "\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + igdDevice + "\r\n\r\n"
	answer := make([]byte, 2048)
	for repeat := firstRepeat; ctx.Err() == nil; repeat *= 2 {
		if _, err := conn.WriteToUDPAddrPort([]byte(request), c.discover); err != nil {
			return nil, fmt.Errorf("search for the gateway: %w", err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(repeat)); err != nil {
			return nil, err
		}
		for {
			n, from, err := conn.ReadFromUDPAddrPort(answer)
			if err != nil {
				break // the time is over
			}
			if location := readLocation(answer[:n], c.gateway.Addr); from.Addr() == c.gateway.Addr && location != nil {
				return location, nil
			}
		}
	}
	return nil, errNoAnswer
}

// readLocation returns where the gateway's description is, nil when the answer
// does not say it or names another machine.
func readLocation(answer []byte, gateway netip.Addr) *url.URL {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil
	}
	_ = response.Body.Close() // it is memory
	location, err := url.Parse(response.Header.Get("Location"))
	if err != nil || location.Scheme != "http" {
		return nil
	}
	if at, err := netip.ParseAddr(location.Hostname()); err != nil || at != gateway {
		return nil
	}
	return location
}

// describe reads what services the gateway has.
func (c *upnp) describe(ctx context.Context, location *url.URL) (igdService, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return igdService{}, err
	}
	_, text, err := c.do(request)
	if err != nil {
		return igdService{}, fmt.Errorf("description of the gateway: %w", err)
	}
	return readDescription(text, location)
}

// igdDescription is the part of a description that matters (UPnP Device
// Architecture 1.1, section 2.3): services at any depth.
type igdDescription struct {
	URLBase string     `xml:"URLBase"`
	Device  igdSection `xml:"device"`
}

type igdSection struct {
	Services []struct {
		Type    string `xml:"serviceType"`
		Control string `xml:"controlURL"`
	} `xml:"serviceList>service"`
	Devices []igdSection `xml:"deviceList>device"`
}

func readDescription(text []byte, location *url.URL) (igdService, error) {
	var root igdDescription
	if err := xml.Unmarshal(text, &root); err != nil {
		return igdService{}, fmt.Errorf("description of the gateway: %w", err)
	}
	base := location
	if named, err := url.Parse(strings.TrimSpace(root.URLBase)); err == nil && named.Host != "" {
		base = named
	}
	for _, kind := range igdServices {
		if control := root.Device.control(kind); control != "" {
			relative, err := url.Parse(strings.TrimSpace(control))
			if err != nil {
				return igdService{}, fmt.Errorf("description of the gateway: %w", err)
			}
			return igdService{base.ResolveReference(relative), kind}, nil
		}
	}
	return igdService{}, errors.New("the gateway maps no ports")
}

// control finds the address of a service in this section or below.
func (s igdSection) control(kind string) string {
	for _, service := range s.Services {
		if strings.TrimSpace(service.Type) == kind {
			return service.Control
		}
	}
	for _, d := range s.Devices {
		if control := d.control(kind); control != "" {
			return control
		}
	}
	return ""
}

// igdAnswer is what the answers to our calls may hold, in an envelope of SOAP.
type igdAnswer struct {
	Address string `xml:"Body>GetExternalIPAddressResponse>NewExternalIPAddress"`
	Code    int    `xml:"Body>Fault>detail>UPnPError>errorCode"`
	Text    string `xml:"Body>Fault>detail>UPnPError>errorDescription"`
}

// An igdError is a refusal by the gateway.
type igdError struct {
	action string
	code   int
	text   string
}

func (e *igdError) Error() string {
	return fmt.Sprintf("the gateway refuses %s: %d %s", e.action, e.code, e.text)
}

// call invokes an action of the service; arguments are names and values in turn.
func (c *upnp) call(ctx context.Context, action string, arguments ...string) (igdAnswer, error) {
	var body strings.Builder
	body.WriteString(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`)
	fmt.Fprintf(&body, `<u:%s xmlns:u="%s">`, action, c.service.kind)
	for i := 0; i+1 < len(arguments); i += 2 {
		fmt.Fprintf(&body, "<%[1]s>%[2]s</%[1]s>", arguments[i], arguments[i+1]) // numbers and addresses: nothing to escape
	}
	fmt.Fprintf(&body, "</u:%s></s:Body></s:Envelope>", action)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.service.control.String(), strings.NewReader(body.String()))
	if err != nil {
		return igdAnswer{}, err
	}
	request.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
	request.Header["SOAPAction"] = []string{`"` + c.service.kind + "#" + action + `"`} // some read this spelling only
	status, text, err := c.do(request)
	if err != nil && status != http.StatusInternalServerError {
		return igdAnswer{}, fmt.Errorf("%s: %w", action, err)
	}
	return readAnswer(action, text)
}

func readAnswer(action string, text []byte) (igdAnswer, error) {
	var answer igdAnswer
	if err := xml.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("%s: %w", action, err)
	}
	if answer.Code != 0 {
		return answer, &igdError{action, answer.Code, answer.Text}
	}
	return answer, nil
}

// do returns the status and the bounded body of an answer. Any other status
// than 200 is an error too.
func (c *upnp) do(request *http.Request) (status int, text []byte, err error) {
	response, err := c.web.Do(request)
	if err != nil {
		return 0, nil, err
	}
	text, err = io.ReadAll(io.LimitReader(response.Body, maximumUPnP))
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the gateway answers %s", response.Status)
	}
	return response.StatusCode, text, err
}
