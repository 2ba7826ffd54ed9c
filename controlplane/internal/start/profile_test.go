package start

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
)

// The certificate beside the profile is all that a program without pins needs.
func TestCertificateBesideTheProfileVouchesForTheServer(t *testing.T) {
	config := testConfig(t)
	up := startUp(t, Up, config)
	pem, err := os.ReadFile(config.Credentials + authoritySuffix)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) || strings.Contains(string(pem), "PRIVATE KEY") {
		t.Fatalf("no certificate: %s", pem)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, up.url+"/api/instance", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Error(response.Status, err)
	}
	if err := up.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(up.text(), config.Credentials+authoritySuffix) {
		t.Errorf("not told of the certificate:\n%s", up.text())
	}
}
