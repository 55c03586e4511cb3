// Package stores runs what production expects from outside: three NATS servers with the
// configuration of deploy/nats, a Redis with the users of deploy/redis and TLS, and a PostgreSQL that
// takes nobody without TLS and a password. Each is in a sandbox, at an address and under the names
// that the manifests use.
package stores

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/names"
	"github.com/postrider/postrider/test/kube/plane"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// patience bounds the start of a store, on a slow machine too.
const patience = 2 * time.Minute

// The stores run as this user, who is nobody anywhere.
const user = 65533

// Where they are.
var (
	natsAddresses = []netip.Addr{netip.MustParseAddr("10.1.200.1"), netip.MustParseAddr("10.1.200.2"), netip.MustParseAddr("10.1.200.3")}
	redisAddress  = netip.MustParseAddr("10.1.200.11")
	pgAddress     = netip.MustParseAddr("10.1.200.21")
)

// Stores are all of them.
type Stores struct {
	NATS     []*Server
	Redis    *Server
	Postgres *Server

	authority *plane.Authority
	dir       string
	root      string // of the checkout
	passwords map[string]string
}

// Server is one server, which can be ended and started again on what it had stored.
type Server struct {
	Address netip.Addr

	network *sandbox.Network
	config  sandbox.Config
	process *sandbox.Process
}

// Prepare gives every store its certificate and what it holds at its beginning. Root is the
// checkout.
func Prepare(t testing.TB, network *sandbox.Network, authority *plane.Authority, root string) *Stores {
	t.Helper()
	s := &Stores{authority: authority, dir: t.TempDir(), root: root, passwords: map[string]string{}}
	require.NoError(t, os.Chmod(s.dir, 0o755))
	for _, name := range []string{"redis-ingest", "redis-scheduler", "redis-admin", "postgres"} {
		s.passwords[name] = rand.Text()
	}
	for i, address := range natsAddresses {
		s.NATS = append(s.NATS, s.nats(t, network, i, address))
	}
	s.Redis = s.redis(t, network)
	s.Postgres = s.postgres(t, network)
	return s
}

// Secrets are what the stores want to hear, by the keys of the SecretStore.
func (s *Stores) Secrets() map[string]string {
	log := url.URL{
		Scheme: "postgres", User: url.UserPassword("postrider", s.passwords["postgres"]), Host: "postgres.postgres.svc:5432", Path: "/postgres",
		RawQuery: "sslmode=verify-full&sslrootcert=/run/tls/postrider/ca.crt",
	}
	return map[string]string{
		"postrider/redis-ingest": s.passwords["redis-ingest"], "postrider/redis-scheduler": s.passwords["redis-scheduler"], "postrider/log-url": log.String(),
	}
}

// Start runs them and returns when they answer under their names.
func (s *Stores) Start(t testing.TB, names *names.Server) {
	t.Helper()
	names.Fix("nats.nats.svc.cluster.local", natsAddresses...)
	for i, a := range natsAddresses {
		names.Fix(fmt.Sprintf("nats-%d.nats-headless.nats.svc.cluster.local", i), a)
	}
	names.Fix("redis.redis.svc.cluster.local", redisAddress)
	names.Fix("postgres.postgres.svc.cluster.local", pgAddress)
	for _, server := range s.all() {
		server.Up(t)
		t.Cleanup(server.Down)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, server := range s.all() {
				t.Logf("---- %s\n%s", server.config.Name, server.process.Tail(15))
			}
		}
	})
	s.AwaitNATS(t)
	require.Eventually(t, func() bool { return s.Client().Ping(t.Context()).Err() == nil }, patience, 50*time.Millisecond, "Redis does not answer")
	s.AwaitPostgres(t)
}

func (s *Stores) all() []*Server { return append(slices.Clone(s.NATS), s.Redis, s.Postgres) }

// Up starts the server; a no-op while it runs.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	if s.Running() {
		return
	}
	p, err := s.network.Start(s.config)
	require.NoError(t, err)
	s.process = p
}

// Running reports whether the server's process is there.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Ended():
		return false
	default:
		return true
	}
}

// Down kills the server.
func (s *Server) Down() {
	if s.process != nil {
		s.process.Kill()
	}
}

// files writes a folder that only the store's user can read.
func (s *Stores) files(t testing.TB, name string, list map[string]string) string {
	t.Helper()
	dir := s.folder(t, name)
	for file, text := range list {
		path := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chown(path, user, user))
	}
	return dir
}

func (s *Stores) folder(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chown(dir, user, user))
	return dir
}

func (s *Stores) certificate(t testing.TB, address netip.Addr, names ...string) map[string]string {
	t.Helper()
	pair, err := s.authority.IssueStore([]net.IP{address.AsSlice()}, names...)
	require.NoError(t, err)
	return map[string]string{"tls.crt": string(pair.Cert), "tls.key": string(pair.Key), "ca.crt": string(pair.CA)}
}

func (s *Stores) server(network *sandbox.Network, name string, address netip.Addr, path string, args, env []string, mounts ...sandbox.Mount) *Server {
	return &Server{Address: address, network: network, config: sandbox.Config{
		Name: name, Address: address, Path: path, Args: args, Env: append([]string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, env...),
		UID: user, GID: user, Mounts: append(sandbox.Machine(), mounts...), NoNewPrivileges: true, DropCapabilities: true,
		Log: filepath.Join(s.dir, name+".log"),
	}}
}

func (s *Stores) nats(t testing.TB, network *sandbox.Network, i int, address netip.Addr) *Server {
	t.Helper()
	name := fmt.Sprintf("nats-%d", i)
	binary := filepath.Join(s.root, "bin/nats-server")
	return s.server(network, name, address, "/nats-server", []string{"--config", "/etc/nats/server.conf"},
		[]string{"NATS_NAME=" + name, "NATS_ZONE=az:" + string(rune('a'+i))},
		sandbox.Mount{Source: binary, Target: "/nats-server", ReadOnly: true},
		sandbox.Mount{Source: filepath.Join(s.root, "deploy/nats/server.conf"), Target: "/etc/nats/server.conf", ReadOnly: true},
		sandbox.Mount{Source: filepath.Join(s.root, "deploy/nats/permissions.conf"), Target: "/etc/nats/permissions.conf", ReadOnly: true},
		sandbox.Mount{Source: s.files(t, name+"-tls", s.certificate(t, address, "nats", "nats.nats.svc", name+".nats-headless.nats.svc")), Target: "/etc/nats/tls", ReadOnly: true},
		sandbox.Mount{Source: s.folder(t, name), Target: "/data"})
}

func (s *Stores) redis(t testing.TB, network *sandbox.Network) *Server {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.root, "deploy/redis/users.acl"))
	require.NoError(t, err)
	users := string(text)
	for _, who := range []string{"ingest", "scheduler", "admin"} {
		sum := sha256.Sum256([]byte(s.passwords["redis-"+who]))
		users = strings.ReplaceAll(users, strings.ToUpper(who)+"_PASSWORD_SHA256", hex.EncodeToString(sum[:]))
	}
	files := s.certificate(t, redisAddress, "redis.redis.svc")
	files["users.acl"] = users
	return s.server(network, "redis", redisAddress, "/usr/bin/redis-server", []string{
		"--port", "0", "--tls-port", "6379", "--tls-cert-file", "/run/redis/tls.crt", "--tls-key-file", "/run/redis/tls.key",
		"--tls-ca-cert-file", "/run/redis/ca.crt", "--tls-auth-clients", "no", "--aclfile", "/run/redis/users.acl",
		"--save", "", "--appendonly", "no", "--maxmemory", "192mb", "--maxmemory-policy", "noeviction", "--dir", "/run/redis",
	}, nil, sandbox.Mount{Source: s.files(t, "redis", files), Target: "/run/redis"})
}

// Client is Redis as its admin.
func (s *Stores) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(redisAddress.String(), "6379"), Username: "admin", Password: s.passwords["redis-admin"],
		TLSConfig: s.authority.Trust("redis.redis.svc"), MaxRetries: -1,
	})
}

// AdminPair is the certificate of NATS's admin.
func (s *Stores) AdminPair(t testing.TB) plane.Pair {
	t.Helper()
	pair, err := s.authority.IssueStore(nil, "admin")
	require.NoError(t, err)
	return pair
}

// Admin is NATS as its admin, until the test ends.
func (s *Stores) Admin(t testing.TB) *nats.Conn {
	t.Helper()
	return s.connect(t, s.AdminPair(t))
}

// Operator is NATS as who sees the servers themselves, until the test ends.
func (s *Stores) Operator(t testing.TB) *nats.Conn {
	t.Helper()
	pair, err := s.authority.IssueStore(nil, "operator")
	require.NoError(t, err)
	return s.connect(t, pair)
}

func (s *Stores) connect(t testing.TB, pair plane.Pair) *nats.Conn {
	t.Helper()
	cert, err := pair.TLS()
	require.NoError(t, err)
	config := s.authority.Trust("nats.nats.svc")
	config.Certificates = append(config.Certificates, cert)
	nc, err := nats.Connect("tls://nats.nats.svc:4222", nats.Secure(config), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.Timeout(5*time.Second))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// AwaitNATS returns when all servers are up and JetStream answers.
func (s *Stores) AwaitNATS(t testing.TB) {
	t.Helper()
	js, err := jetstream.New(s.Admin(t))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := js.AccountInfo(ctx)
		return err == nil && !slices.ContainsFunc(s.NATS, func(n *Server) bool { return !n.Listens(t, "4222") })
	}, patience, 100*time.Millisecond, "JetStream does not answer")
}

// Listens reports whether the server takes connections at a port.
func (s *Server) Listens(t testing.TB, port string) bool {
	t.Helper()
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(s.Address.String(), port))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
