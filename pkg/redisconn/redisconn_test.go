package redisconn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client opens while Redis is away, fails fast, and works once Redis is there; the log says both once.
func TestClientOutlivesRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log, records := logtest.Recorder(t)
	cfg := redisconn.Default()
	cfg.URL = server.URL
	server.Down(t)

	c, err := redisconn.Open(cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.Error(t, c.Ping(t.Context()))
	require.Error(t, c.Ping(t.Context()))
	require.Len(t, records.Find("Redis cannot be reached"), 1)

	server.Up(t)
	require.NoError(t, c.Ping(t.Context()))
	require.NoError(t, c.Universal().Set(t.Context(), "k", "v", 0).Err())
	require.Len(t, records.Find("Redis can be reached again"), 1)
}

// A Redis that hangs costs a command its time limit and no more.
func TestHangingRedisCostsTheTimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := redisconn.Default()
	cfg.URL = server.URL
	cfg.Timeout = 50 * time.Millisecond
	c, err := redisconn.Open(cfg, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Ping(t.Context()))
	server.Hang(t)
	require.Error(t, c.Ping(t.Context()))
	server.Continue(t)
	require.Eventually(t, func() bool { return c.Ping(t.Context()) == nil }, 10*time.Second, 5*time.Millisecond)
}

// The password of the configuration is the one that is used, and neither it nor the URL's is logged.
func TestPasswordIsUsedAndNotLogged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "requirepass", "sesame-open").Err())
	log, records := logtest.Recorder(t)
	cfg := redisconn.Default()
	cfg.URL = "redis://:wrong-one@" + server.Addr
	cfg.Password = "sesame-open"
	c, err := redisconn.Open(cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.Ping(t.Context()))
	require.False(t, records.Contains("sesame-open"))
	require.False(t, records.Contains("wrong-one"))
}

// Every fault is named by its option; none repeats the URL.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*redisconn.Config)
		want   string // empty: no fault
	}{
		"no URL is no fault":                  {func(*redisconn.Config) {}, ""},
		"a socket is a URL":                   {func(c *redisconn.Config) { c.URL = "unix:///run/redis.sock" }, ""},
		"another scheme is refused":           {func(c *redisconn.Config) { c.URL = "http://:hush@host" }, "url: must be a URL"},
		"nodes need a cluster":                {func(c *redisconn.Config) { c.Nodes = []string{"a:1"} }, "nodes: must be set only with"},
		"a cluster has no sentinels":          {func(c *redisconn.Config) { c.Cluster, c.Sentinel = true, "m" }, "sentinel: must not"},
		"an empty pool is refused":            {func(c *redisconn.Config) { c.PoolSize = 0 }, "pool-size: must be from 1"},
		"time limits are above zero":          {func(c *redisconn.Config) { c.Timeout = 0 }, "timeout: must be above zero"},
		"dialling has a limit above zero too": {func(c *redisconn.Config) { c.Dial = -1 }, "dial-timeout: must be above zero"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := redisconn.Default()
			tt.change(&cfg)
			err := cfg.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "hush")
		})
	}
}

// A connection trusts whom the CA file names when it is made, and none is made in clear text. Here
// the server is certified by one CA at first, then by another.
func TestTrustsTheCAsOfTheMoment(t *testing.T) {
	t.Parallel()
	oldPEM, oldServer := selfSigned(t)
	newPEM, newServer := selfSigned(t)
	var current atomic.Pointer[tls.Certificate]
	current.Store(&oldServer)
	backend := redistest.Start(t)
	addr := terminate(t, backend.Addr, &current)
	cfg := redisconn.Default()
	cfg.URL, cfg.CAFile = "rediss://"+addr, filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(cfg.CAFile, oldPEM, 0o600))
	open := func() error {
		c, err := redisconn.Open(cfg, logtest.New(t))
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		return c.Ping(t.Context())
	}
	require.NoError(t, open())
	long, err := redisconn.Open(cfg, logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, long.Close()) })

	current.Store(&newServer)
	require.ErrorContains(t, long.Ping(t.Context()), "certificate")
	require.NoError(t, os.WriteFile(cfg.CAFile, newPEM, 0o600))
	require.NoError(t, long.Ping(t.Context()), "the client that was opened before trusts the new CA")
	require.NoError(t, os.WriteFile(cfg.CAFile, []byte("half"), 0o600))
	_, err = redisconn.Open(cfg, logtest.New(t))
	require.Error(t, err)
}

// terminate takes TLS for a server that speaks none, with the certificate of the moment.
func terminate(t *testing.T, backend string, current *atomic.Pointer[tls.Certificate]) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	})
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				var d net.Dialer
				inner, err := d.DialContext(context.WithoutCancel(t.Context()), "tcp", backend)
				if err != nil {
					return
				}
				running.Go(func() {
					_, _ = io.Copy(inner, conn)
					_ = inner.Close()
				})
				_, _ = io.Copy(conn, inner)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// selfSigned is a server's certificate that is its own authority.
func selfSigned(t *testing.T) (authority []byte, server tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Without a URL, or with CAs that cannot be read, no client opens.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	log := logtest.New(t)
	cfg := redisconn.Default()
	_, err := redisconn.Open(cfg, log)
	require.ErrorContains(t, err, "url: must be set")

	cfg.URL, cfg.CAFile = "rediss://localhost", filepath.Join(t.TempDir(), "none.pem")
	_, err = redisconn.Open(cfg, log)
	require.ErrorContains(t, err, "read the CA file")

	cfg.CAFile = filepath.Join(t.TempDir(), "junk.pem")
	require.NoError(t, os.WriteFile(cfg.CAFile, pem.EncodeToMemory(&pem.Block{Type: "JUNK", Bytes: []byte(rand.Text())}), 0o600))
	_, err = redisconn.Open(cfg, log)
	require.ErrorContains(t, err, "holds no certificate")
}

// Whatever the URL, validation answers and never repeats it.
func TestURLsAreNeverRepeated(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "s3cr3t-" + rapid.StringMatching(`[a-z0-9]{4,12}`).Draw(t, "secret")
		cfg := redisconn.Default()
		cfg.URL = rapid.String().Draw(t, "head") + secret + rapid.String().Draw(t, "tail")
		if err := cfg.Validate(); err != nil {
			require.NotContains(t, err.Error(), secret)
		}
		_, err := redisconn.Open(redisconn.Config{URL: cfg.URL, Password: conf.Secret(secret)}, logtest.New(discard{}))
		require.Error(t, err, "a configuration without limits never opens")
		require.NotContains(t, err.Error(), secret)
	})
}

// discard is a test that does not exist, for loggers inside properties.
type discard struct{ testing.TB }

func (discard) Helper()        {}
func (discard) Cleanup(func()) {}
func (discard) Log(...any)     {}
