package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// newCertificate returns a certificate for 127.0.0.1 with the serial number, and its key, in PEM form.
func newCertificate(t *testing.T, serial int64) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "decide"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// put replaces a file as renewal tools do: a new one takes its name.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateIsReloaded renews the certificate under a running decide: new connections get it without a restart, and those that stand go on. Neither
// half a renewal nor a damaged file ends the service.
func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	certFile, keyFile := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	trusted := x509.NewCertPool()
	certificates, keys := map[int64][]byte{}, map[int64][]byte{}
	for serial := int64(1); serial <= 3; serial++ {
		certificates[serial], keys[serial] = newCertificate(t, serial)
		trusted.AppendCertsFromPEM(certificates[serial])
	}
	put(t, certFile, certificates[1])
	put(t, keyFile, keys[1])
	space := testenv.Redis(t)
	newCache(t, space).define(t, flags)
	addr := "127.0.0.1:" + testenv.FreePort(t)
	program := testenv.Run(t, testenv.Build(t, "cmd/decide"), []string{
		"DECIDE_REDIS_URL=" + space.URL, "DECIDE_KEY_PREFIX=" + space.Prefix, "DECIDE_ADDR=" + addr, "DECIDE_ADMIN_ADDR=127.0.0.1:" + testenv.FreePort(t),
		"DECIDE_TLS_CERT=" + certFile, "DECIDE_TLS_KEY=" + keyFile,
	})
	ask := func(client *http.Client) (serial int64, err error) {
		response, err := client.Post("https://"+addr+"/flags/?v=2", "application/json", strings.NewReader(`{"token":"`+token+`","distinct_id":"ada"}`)) //nolint:noctx // because the client has a time-out
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close() // it has been read
		if response.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("status %s", response.Status)
		}
		return response.TLS.PeerCertificates[0].SerialNumber.Int64(), err
	}
	newClient := func(keep bool) *http.Client {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: !keep}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	each, kept := newClient(false), newClient(true)
	await := func(want int64) {
		t.Helper()
		testenv.Eventually(t, settle, func() error {
			serial, err := ask(each)
			if err == nil && serial != want {
				err = fmt.Errorf("certificate %d, want %d", serial, want)
			}
			return err
		})
	}
	stays := func(want int64, what string) { // for longer than the second between two looks at the file
		t.Helper()
		for start := time.Now(); time.Since(start) < 1500*time.Millisecond; {
			if serial, err := ask(each); err != nil || serial != want {
				t.Fatalf("%s: certificate %d, %v; want still %d", what, serial, err, want)
			}
		}
	}
	await(1)
	if serial, err := ask(kept); err != nil || serial != 1 {
		t.Fatalf("certificate %d, %v", serial, err)
	}
	put(t, keyFile, keys[2])
	put(t, certFile, certificates[2])
	await(2)
	put(t, certFile, certificates[3])
	stays(2, "with half a renewal")
	put(t, keyFile, keys[3])
	await(3)
	put(t, certFile, []byte("damaged"))
	stays(3, "with a damaged file")
	if n := len(program.WaitForLogs(t, "the new certificate cannot be used", 2)); n != 2 {
		t.Errorf("%d warnings about two files that cannot be used, each looked at more than once", n)
	}
	if serial, err := ask(kept); err != nil || serial != 1 {
		t.Errorf("the connection that stood: certificate %d, %v", serial, err)
	}
	old := &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // because it has to be refused
	if conn, err := tls.Dial("tcp", addr, old); err == nil {
		_ = conn.Close() // it should not have been opened
		t.Error("TLS 1.1 is spoken")
	}
}

// TestSnapshotDirectoryNotWritable: the first line about it comes at the start, names the setting, and is the only one; decide serves all the same. S16.
func TestSnapshotDirectoryNotWritable(t *testing.T) {
	t.Parallel()
	d := startTarget(t, "DECIDE_SNAPSHOT_FILE="+filepath.Join(t.TempDir(), "missing", "decide.snapshot"))
	line := d.WaitForLog(t, "--snapshot-file")
	if !strings.Contains(line, `"level":"warn"`) || !strings.Contains(line, "no such file or directory") {
		t.Errorf("the line about it: %s", line)
	}
	if status, _, err := ask(d.addr); err != nil || status != http.StatusOK {
		t.Errorf("status %d, %v", status, err)
	}
	d.Signal(t, syscall.SIGTERM)
	if code := d.WaitWithin(t, settle); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	about := 0
	for _, line := range d.Logs() {
		if strings.Contains(line, "snapshot") {
			about++
		}
	}
	if about > 2 { // beside the warning: there is no file yet
		t.Errorf("%d lines about it:\n%s", about, strings.Join(d.Logs(), "\n"))
	}
}
