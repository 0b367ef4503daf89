package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// authority makes a certificate authority and, signed by it, a certificate of 127.0.0.1.
func authority(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	year := time.Now().AddDate(1, 0, 0)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotAfter: year, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, caKey.Public(), caKey)
	must(err)
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, NotAfter: year, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, issuer, serverKey.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(serverKey)
	must(err)
	return write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", serverDER), write("key.pem", "EC PRIVATE KEY", keyDER)
}

// goesOn runs both programs through a restart of Redis.
func (s *scene) goesOn(rd *testenv.RedisInstance, env ...string) *replicator {
	s.t.Helper()
	s.env = env
	r := s.replicator()
	s.waitEqual()
	var decideEnv []string
	for _, e := range env {
		decideEnv = append(decideEnv, strings.Replace(e, "REPLICATOR_", "DECIDE_", 1))
	}
	d, l := s.decide(decideEnv...), s.load()
	l.more(50)
	rd.Kill(s.t)
	l.more(10)
	rd.Start(s.t)
	l.more(10)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	return r
}

// F36, S52: through TLS with an authority of one's own, and never without it.
func TestRedisTLS(t *testing.T) {
	t.Parallel()
	ca, cert, key := authority(t)
	port := testenv.FreePort(t)
	rd := testenv.RedisServer(t, testenv.RedisOptions{Process: true, Conf: map[string]string{
		"tls-port": port, "tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": ca, "tls-auth-clients": "no",
	}})
	url := "rediss://127.0.0.1:" + port
	s := newScene(t, testenv.PostgresServer(t, testenv.PGOptions{}).Database(t), url, client(t, url, ca))
	distrustful := s.replicator()
	if code := distrustful.Wait(t); code != 2 || len(distrustful.said("--redis-url", "certificate")) == 0 {
		t.Errorf("without the authority: exit code %d, %v", code, distrustful.Logs())
	}
	s.goesOn(rd, "REPLICATOR_REDIS_CA="+ca)
}

// F36, S52: through a Unix socket.
func TestRedisUnixSocket(t *testing.T) {
	t.Parallel()
	rd := testenv.RedisServer(t, testenv.RedisOptions{Process: true})
	url := "unix://" + rd.Socket
	s := newScene(t, testenv.PostgresServer(t, testenv.PGOptions{}).Database(t), url, client(t, url, ""))
	s.goesOn(rd)
}

// F27, F34, S52: the two users that docs/operations.md names suffice for everything that the programs do: nothing is ever denied.
func TestRedisUsersOfTheManual(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	users := regexp.MustCompile(`(?m)^user (replicator|decide) on >PASSWORD .*$`).FindAllString(string(text), -1)
	if len(users) != 2 {
		t.Fatalf("docs/operations.md names %d users", len(users))
	}
	file := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(file, []byte("user default on >admin ~* &* +@all\n"+strings.Join(users, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rd := testenv.RedisServer(t, testenv.RedisOptions{Process: true, Conf: map[string]string{"aclfile": file}})
	admin := client(t, "redis://:admin@"+rd.Addr, "")
	s := newScene(t, testenv.PostgresServer(t, testenv.PGOptions{}).Database(t), "redis://replicator:PASSWORD@"+rd.Addr, admin)
	leader := s.replicator()
	leader.is("leader")
	s.waitEqual()
	other := s.replicator() // stands by, and looks at the leader's beat
	other.is("standby")
	s.redis = "redis://decide:PASSWORD@" + rd.Addr
	d, l := s.decide(), s.load()
	s.redis = "redis://replicator:PASSWORD@" + rd.Addr
	l.more(20)
	for _, command := range []string{"check", "status", "rebuild", "verify"} {
		testenv.Eventually(t, settle, func() error { // until it has caught up, a replicator is not ready
			if out, code := s.command(leader, command); code != 0 {
				return fmt.Errorf("%s ends with %d: %s", command, code, out)
			}
			return nil
		})
	}
	leader.Kill(t)
	other.is("leader")
	l.more(20)
	l.stop()
	s.waitEqual()
	d.noticedNothing(s)
	denied, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(denied) > 0 {
		t.Errorf("denied: %v (%v)", denied, err)
	}
}
