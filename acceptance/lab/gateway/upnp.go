package gateway

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
)

const service = "urn:schemas-upnp-org:service:WANIPConnection:1"

// discover answers a search (UPnP Device Architecture 1.1, section 1.3.3).
func (g *Gateway) discover(request []byte, _ netip.AddrPort) []byte {
	text := string(request)
	if !strings.HasPrefix(text, "M-SEARCH") || !strings.Contains(text, "InternetGatewayDevice:1") {
		return nil
	}
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\nLOCATION: http://%s/root.xml\r\n"+
		"SERVER: lab UPnP/1.1 gateway\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n", g.config.Web.Addr())
}

const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>` + service + `</serviceType><controlURL>/control</controlURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>`

// web serves the description and the service.
func (g *Gateway) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /root.xml", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, description) // the client has gone
	})
	mux.HandleFunc("POST /control", g.invoke)
	return mux
}

// call is a call of one of the three actions, in its envelope.
type call struct {
	Add *struct {
		External int    `xml:"NewExternalPort"`
		Internal int    `xml:"NewInternalPort"`
		Client   string `xml:"NewInternalClient"`
		Lease    int    `xml:"NewLeaseDuration"`
	} `xml:"Body>AddPortMapping"`
	Delete *struct {
		External int `xml:"NewExternalPort"`
	} `xml:"Body>DeletePortMapping"`
	Address *struct{} `xml:"Body>GetExternalIPAddress"`
}

func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request) {
	var c call
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err == nil {
		err = xml.Unmarshal(text, &c)
	}
	client, parseErr := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil || parseErr != nil:
		fault(w, 402, "Invalid Args")
	case c.Address != nil:
		reply(w, "GetExternalIPAddress", "<NewExternalIPAddress>"+g.config.External.String()+"</NewExternalIPAddress>")
	case c.Add != nil && g.config.Permanent && c.Add.Lease != 0:
		fault(w, 725, "OnlyPermanentLeasesSupported")
	case c.Add != nil && c.Add.Client != client.Addr().Unmap().String():
		fault(w, 606, "Action not authorized")
	case c.Add != nil:
		to := netip.AddrPortFrom(client.Addr().Unmap(), uint16(c.Add.Internal))
		if _, err := g.forward(uint16(c.Add.External), to, "", false); err != nil {
			fault(w, 718, "ConflictInMappingEntry")
			return
		}
		reply(w, "AddPortMapping", "")
	case c.Delete != nil:
		err := g.withdraw(func(external uint16, _ netip.AddrPort, _ string) bool { return int(external) == c.Delete.External })
		if err != nil {
			fault(w, 501, "Action Failed")
			return
		}
		reply(w, "DeletePortMapping", "")
	default:
		fault(w, 401, "Invalid Action")
	}
}

func reply(w http.ResponseWriter, action, arguments string) {
	envelope(w, fmt.Sprintf(`<u:%[1]sResponse xmlns:u="%[2]s">%[3]s</u:%[1]sResponse>`, action, service, arguments))
}

func fault(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(http.StatusInternalServerError)
	envelope(w, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>`+
		`<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>%s</errorDescription></UPnPError>`+
		`</detail></s:Fault>`, code, text))
}

func envelope(w http.ResponseWriter, body string) {
	_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>%s</s:Body></s:Envelope>`, body) // the client has gone
}
