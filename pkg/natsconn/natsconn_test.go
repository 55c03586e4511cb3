package natsconn_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast returns a configuration that waits little.
func fast(url string) natsconn.Config {
	cfg := natsconn.Default()
	cfg.URL = url
	cfg.ReconnectWait = 10 * time.Millisecond
	return cfg
}

// roundTrip sends a message to a subscription on the same connection and back.
func roundTrip(t *testing.T, nc *nats.Conn) {
	t.Helper()
	sub, err := nc.SubscribeSync(nats.NewInbox())
	require.NoError(t, err)
	require.NoError(t, nc.Publish(sub.Subject, []byte("hello")))
	msg, err := sub.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "hello", string(msg.Data))
	require.NoError(t, sub.Unsubscribe())
}

// A connection survives the server's restart, and the log says so.
func TestReconnects(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log, records := logtest.Recorder(t)
	nc, err := natsconn.Connect(t.Context(), fast(s.URL), "reconnects", log)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	roundTrip(t, nc)

	s.Restart(t)
	require.Eventually(t, func() bool { return len(records.Find("NATS reconnected")) == 1 }, 20*time.Second, 5*time.Millisecond)
	require.NotEmpty(t, records.Find("NATS disconnected"))
	roundTrip(t, nc)
}

// The first connect waits for a server that starts a moment later.
func TestWaitsForTheFirstServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Stop()
	log, records := logtest.Recorder(t)
	type result struct {
		nc  *nats.Conn
		err error
	}
	connected := make(chan result, 1)
	go func() {
		nc, err := natsconn.Connect(t.Context(), fast(s.URL), "waits", log)
		connected <- result{nc, err}
	}()
	require.Eventually(t, func() bool { return len(records.Find("NATS cannot be reached yet")) > 0 }, 20*time.Second, 5*time.Millisecond)
	s.Restart(t)
	got := <-connected
	require.NoError(t, got.err)
	t.Cleanup(got.nc.Close)
	roundTrip(t, got.nc)
}

// Without a server the first connect gives up when its time has passed.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Stop()
	cfg := fast(s.URL)
	cfg.ConnectTimeout = 50 * time.Millisecond
	_, err := natsconn.Connect(t.Context(), cfg, "gives up", logtest.New(t))
	require.ErrorContains(t, err, "connect to NATS within 50ms")
}

// Whoever is told to stop does not wait for a server any more.
func TestGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Stop()
	log, records := logtest.Recorder(t)
	cfg := fast(s.URL)
	cfg.ConnectTimeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan error, 1)
	go func() {
		_, err := natsconn.Connect(ctx, cfg, "gives up", log)
		gave <- err
	}()
	require.Eventually(t, func() bool { return len(records.Find("NATS cannot be reached yet")) > 0 }, 20*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-gave, context.Canceled)
}

// A refused credential is not waited for, and does not show in the error.
func TestRefusedCredentialFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.WithOptions(func(o *server.Options) { o.Username, o.Password = "u", "right" }))
	cfg := fast("nats://u:wrong-one@" + s.URL[len("nats://"):])
	cfg.ConnectTimeout = time.Hour
	log, records := logtest.Recorder(t)
	_, err := natsconn.Connect(t.Context(), cfg, "refused", log)
	require.ErrorIs(t, err, nats.ErrAuthorization)
	require.NotContains(t, err.Error(), "wrong-one")
	require.False(t, records.Contains("wrong-one"))
}

// A connection to a server in the same process needs no port.
func TestInProcess(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc, err := natsconn.InProcess(s.Server(), "in process", logtest.New(t))
	require.NoError(t, err)
	roundTrip(t, nc)
	require.NoError(t, natsconn.Drain(t.Context(), nc))
	require.True(t, nc.IsClosed())
	require.NoError(t, natsconn.Drain(t.Context(), nc), "draining twice is a no-op")
}

// Draining hands on what is being handled, and ends with its context.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc, err := natsconn.Connect(t.Context(), fast(s.URL), "drain/1", logtest.New(t))
	require.NoError(t, err)
	require.Regexp(t, `^_INBOX\.drain\.[^.]+$`, nc.NewInbox(), "replies are the service's own")
	handling, release := make(chan struct{}), make(chan struct{})
	_, err = nc.Subscribe("work", func(*nats.Msg) {
		close(handling)
		<-release
	})
	require.NoError(t, err)
	require.NoError(t, nc.Publish("work", nil))
	<-handling

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, natsconn.Drain(ctx, nc), context.Canceled)
	require.True(t, nc.IsClosed())
	close(release)
}

// A connection that is down has nothing to drain.
func TestDrainWhileDown(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc, err := natsconn.Connect(t.Context(), fast(s.URL), "down", logtest.New(t))
	require.NoError(t, err)
	s.Stop()
	require.Eventually(t, nc.IsReconnecting, 10*time.Second, time.Millisecond)
	require.NoError(t, natsconn.Drain(t.Context(), nc))
	require.True(t, nc.IsClosed())
}

// Every fault is named by its option; none repeats the URL.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*natsconn.Config)
		want   string // empty: no fault
	}{
		"the defaults have none":       {func(*natsconn.Config) {}, ""},
		"several servers may be named": {func(c *natsconn.Config) { c.URL = "nats://a:4222, tls://b:4222" }, ""},
		"a URL has a host":             {func(c *natsconn.Config) { c.URL = "hush" }, "url: must be URLs"},
		"a URL has a known scheme":     {func(c *natsconn.Config) { c.URL = "http://hush@a" }, "url: must use the scheme"},
		"an empty server is refused":   {func(c *natsconn.Config) { c.URL = "nats://a:4222," }, "url: must be URLs"},
		"one credential is enough":     {func(c *natsconn.Config) { c.CredsFile, c.NKeyFile = "a", "b" }, "nkey-file: must not"},
		"a certificate needs its key":  {func(c *natsconn.Config) { c.CertFile = "a" }, "key-file: must be set exactly"},
		"time limits are above zero":   {func(c *natsconn.Config) { c.ConnectTimeout = 0 }, "connect-timeout: must be above zero"},
		"pauses are above zero":        {func(c *natsconn.Config) { c.ReconnectWait = 0 }, "reconnect-wait: must be above zero"},
		"probes have a pause":          {func(c *natsconn.Config) { c.PingInterval = 0 }, "ping-interval: must be above zero"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := natsconn.Default()
			tt.change(&cfg)
			err := cfg.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "hush")
			_, err = natsconn.Connect(t.Context(), cfg, "x", logtest.New(t))
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// Files that are not there are found before a connection is tried.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	for name, change := range map[string]func(*natsconn.Config){
		"credentials": func(c *natsconn.Config) { c.CredsFile = none },
		"nkey":        func(c *natsconn.Config) { c.NKeyFile = none },
		"CAs":         func(c *natsconn.Config) { c.CAFile = none },
		"certificate": func(c *natsconn.Config) { c.CertFile, c.KeyFile = none, none },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := natsconn.Default()
			cfg.ConnectTimeout = time.Hour // it is not waited for
			change(&cfg)
			_, err := natsconn.Connect(t.Context(), cfg, "x", logtest.New(t))
			require.ErrorContains(t, err, none)
		})
	}
}
