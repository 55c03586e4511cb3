package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/cluster"
)

// StartSecuredCluster starts the cluster as production has it: NATS takes nobody but holders of a
// certificate and gives each service the permissions of deploy/nats, Redis the rights of
// deploy/redis, and the services speak mTLS with each other. Events are in two segments, of each of
// which the same is allowed.
func StartSecuredCluster(t *testing.T) *Secured {
	t.Helper()
	dir := t.TempDir()
	pki := newAuthority(t, dir)
	for _, name := range append([]string{"nats"}, cluster.Services...) {
		pki.issue(t, name)
	}
	permissions, err := os.ReadFile("../../deploy/nats/permissions.conf")
	require.NoError(t, err)
	users := aclFile(t, dir)
	c, s := StartCluster(t, cluster.Options{
		NATSConfig: fmt.Sprintf(`
tls { cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true }
authorization {
%s
}
`, pki.cert("nats"), pki.key("nats"), pki.ca(), permissions),
		RedisArgs: []string{"--aclfile", users},
		Env:       map[string]string{"POSTRIDER_STREAMS_SEGMENTS": "2"},
		EnvOf:     func(service string) map[string]string { return secured(pki, service) },
	})
	return &Secured{Cluster: c, System: s, pki: pki}
}

// Secured is a cluster whose stores know their users.
type Secured struct {
	Cluster *cluster.Cluster
	System  *System
	pki     *authority
}

// NATS connects as a service does.
func (s *Secured) NATS(t *testing.T, service string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.Cluster.NATSURL, nats.RootCAs(s.pki.ca()), nats.ClientCert(s.pki.cert(service), s.pki.key(service)),
		nats.CustomInboxPrefix("_INBOX."+service), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// Redis connects as a service does.
func (s *Secured) Redis(t *testing.T, user string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(s.Cluster.RedisURL)
	require.NoError(t, err)
	opts.Username, opts.Password = user, password(user)
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// secured is what the mtls component of the manifests adds to a service.
func secured(pki *authority, service string) map[string]string {
	env := map[string]string{
		"POSTRIDER_NATS_CA_FILE": pki.ca(), "POSTRIDER_NATS_CERT_FILE": pki.cert(service), "POSTRIDER_NATS_KEY_FILE": pki.key(service),
		"POSTRIDER_REDIS_USERNAME": service, "POSTRIDER_REDIS_PASSWORD": password(service),
	}
	server := map[string]string{"router": "GRPC", "dispatcher": "GRPC", "scheduler": "GRPC", "api": "INTERNAL_GRPC"}[service]
	if server != "" {
		env["POSTRIDER_"+server+"_TLS_CERT_FILE"] = pki.cert(service)
		env["POSTRIDER_"+server+"_TLS_KEY_FILE"] = pki.key(service)
		env["POSTRIDER_"+server+"_TLS_CLIENT_CA_FILE"] = pki.ca()
	}
	for _, other := range []string{"router", "dispatcher", "scheduler", "api"} {
		prefix := "POSTRIDER_" + strings.ToUpper(other) + "_TLS_"
		env[prefix+"CA_FILE"], env[prefix+"CERT_FILE"], env[prefix+"KEY_FILE"] = pki.ca(), pki.cert(service), pki.key(service)
		env[prefix+"SERVER_NAME"] = other
	}
	return env
}

func password(user string) string { return "redis-password-of-" + user }

// aclFile is the project's file of Redis users with passwords in it.
func aclFile(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/redis/users.acl")
	require.NoError(t, err)
	filled := string(text)
	for _, user := range []string{"ingest", "scheduler", "admin"} {
		sum := sha256.Sum256([]byte(password(user)))
		filled = strings.ReplaceAll(filled, strings.ToUpper(user)+"_PASSWORD_SHA256", hex.EncodeToString(sum[:]))
	}
	lines := slices.DeleteFunc(strings.Split(filled, "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, "#") })
	path := filepath.Join(dir, "users.acl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// authority is a certificate authority of one test, with what it issued in one folder.
type authority struct {
	dir    string
	cert0  *x509.Certificate
	signer *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir, serial: 1}
	var err error
	a.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert0 = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postrider test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert0, a.cert0, a.signer.Public(), a.signer)
	require.NoError(t, err)
	a.write(t, a.ca(), "CERTIFICATE", der)
	return a
}

func (a *authority) ca() string              { return filepath.Join(a.dir, "ca.crt") }
func (a *authority) cert(name string) string { return filepath.Join(a.dir, name+".crt") }
func (a *authority) key(name string) string  { return filepath.Join(a.dir, name+".key") }

// issue makes a certificate by which a process both serves and calls, as the manifests' are.
func (a *authority) issue(t *testing.T, name string) {
	t.Helper()
	a.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), DNSNames: []string{name, name + ".postrider.svc", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert0, key.Public(), a.signer)
	require.NoError(t, err)
	a.write(t, a.cert(name), "CERTIFICATE", der)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	a.write(t, a.key(name), "PRIVATE KEY", private)
}

func (*authority) write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
