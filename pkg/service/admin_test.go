package service_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// admin starts admin servers on free ports and returns them with a client of their health.
func admin(t *testing.T, cfg service.AdminConfig) (*service.Admin, healthv1.HealthClient) {
	t.Helper()
	cfg.HealthListen, cfg.MetricsListen, cfg.StopGrace = "127.0.0.1:0", "127.0.0.1:0", time.Minute
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the metrics") })
	a, err := service.NewAdmin(cfg, page, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.WithoutCancel(t.Context()))) })
	cc, err := grpc.NewClient(a.HealthAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cc.Close()) })
	return a, healthv1.NewHealthClient(cc)
}

// status asks gRPC health.
func status(t *testing.T, c healthv1.HealthClient, name string) healthv1.HealthCheckResponse_ServingStatus {
	t.Helper()
	resp, err := c.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
	require.NoError(t, err)
	return resp.GetStatus()
}

// get reads a page of the metrics port.
func get(t *testing.T, a *service.Admin, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.MetricsAddr().String()+path, http.NoBody)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

const (
	serving    = healthv1.HealthCheckResponse_SERVING
	notServing = healthv1.HealthCheckResponse_NOT_SERVING
)

// Health follows the life of the process; liveness looks at nothing but the process.
func TestAdminHealth(t *testing.T) {
	t.Parallel()
	a, c := admin(t, service.AdminConfig{})
	var away atomic.Bool
	a.Check("nats", func() error {
		if away.Load() {
			return errors.New("not connected")
		}
		return nil
	})
	want := func(liveness, startup, readiness healthv1.HealthCheckResponse_ServingStatus, readyz int) {
		t.Helper()
		require.Equal(t, liveness, status(t, c, service.Liveness))
		require.Equal(t, startup, status(t, c, service.Startup))
		require.Equal(t, readiness, status(t, c, service.Readiness))
		require.Equal(t, readiness, status(t, c, ""))
		code, _ := get(t, a, "/livez")
		require.Equal(t, http.StatusOK, code)
		code, _ = get(t, a, "/readyz")
		require.Equal(t, readyz, code)
	}
	want(serving, notServing, notServing, http.StatusServiceUnavailable)
	a.Started()
	want(serving, serving, serving, http.StatusOK)
	require.NoError(t, a.Ready())

	away.Store(true)
	want(serving, serving, notServing, http.StatusServiceUnavailable)
	require.EqualError(t, a.Ready(), "nats: not connected")
	_, body := get(t, a, "/readyz")
	require.JSONEq(t, `{"status":"unavailable","faults":{"nats":"not connected"}}`, body)

	away.Store(false)
	want(serving, serving, serving, http.StatusOK)
	a.Drain(t.Context())
	want(serving, serving, notServing, http.StatusServiceUnavailable)
}

// Those who watch readiness are told when a check changes its mind.
func TestAdminWatch(t *testing.T) {
	t.Parallel()
	a, c := admin(t, service.AdminConfig{})
	var away atomic.Bool
	a.Check("nats", func() error {
		if away.Load() {
			return errors.New("not connected")
		}
		return nil
	})
	a.Started()
	stream, err := c.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service.Readiness})
	require.NoError(t, err)
	resp, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, serving, resp.GetStatus())
	away.Store(true)
	resp, err = stream.Recv()
	require.NoError(t, err)
	require.Equal(t, notServing, resp.GetStatus())
}

// The drain waits for its delay, and no longer than its context.
func TestAdminDrainDelay(t *testing.T) {
	t.Parallel()
	a, c := admin(t, service.AdminConfig{DrainDelay: time.Hour / 2 / 60 / 60}) // half a second
	a.Started()
	begin := time.Now()
	a.Drain(t.Context())
	require.GreaterOrEqual(t, time.Since(begin), time.Second/2)
	require.Equal(t, notServing, status(t, c, ""))

	slow, err := service.NewAdmin(service.AdminConfig{DrainDelay: time.Hour, StopGrace: 2 * time.Hour}, http.NotFoundHandler(), logtest.New(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow.Drain(ctx)
}

// Metrics and profiles are on the metrics port, and nothing else is.
func TestAdminPages(t *testing.T) {
	t.Parallel()
	a, _ := admin(t, service.AdminConfig{})
	code, body := get(t, a, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "the metrics", body)
	code, body = get(t, a, "/debug/pprof/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "goroutine")
	code, _ = get(t, a, "/debug/pprof/heap")
	require.Equal(t, http.StatusOK, code)
	code, _ = get(t, a, "/")
	require.Equal(t, http.StatusNotFound, code)
}

// Without addresses nothing listens, and a port that is taken is an error of the start.
func TestAdminAddresses(t *testing.T) {
	t.Parallel()
	silent, err := service.NewAdmin(service.AdminConfig{StopGrace: time.Second}, http.NotFoundHandler(), logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, silent.Start(t.Context()))
	require.Nil(t, silent.HealthAddr())
	require.Nil(t, silent.MetricsAddr())
	require.NoError(t, silent.Stop(t.Context()))

	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for _, cfg := range []service.AdminConfig{
		{HealthListen: taken.Addr().String(), StopGrace: time.Second},
		{HealthListen: "127.0.0.1:0", MetricsListen: taken.Addr().String(), StopGrace: time.Second},
	} {
		a, err := service.NewAdmin(cfg, http.NotFoundHandler(), logtest.New(t))
		require.NoError(t, err)
		var g service.Group
		g.Add(a)
		require.ErrorContains(t, g.Start(t.Context()), "address already in use")
	}
}

// Every fault is named by its option.
func TestAdminConfigFaults(t *testing.T) {
	t.Parallel()
	require.NoError(t, service.DefaultAdmin().Validate())
	for name, cfg := range map[string]service.AdminConfig{
		"drain-delay: must not be negative": {DrainDelay: -1, StopGrace: 1},
		"stop-grace: must be above zero":    {},
		"stop-grace: must be longer":        {DrainDelay: 2, StopGrace: 1},
	} {
		_, err := service.NewAdmin(cfg, http.NotFoundHandler(), logtest.New(t))
		require.ErrorContains(t, err, name)
	}
}

// An HTTP server serves until it is stopped, and lets requests end first.
func TestHTTPServerFinishesRequests(t *testing.T) {
	t.Parallel()
	handling, release := make(chan struct{}), make(chan struct{})
	s := service.HTTP("web", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(handling)
		<-release
		w.WriteHeader(http.StatusTeapot)
	}))
	require.Nil(t, s.Addr())
	require.NoError(t, s.Stop(t.Context()), "stopping before starting is a no-op")
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Start(ctx))
	require.Error(t, s.Start(ctx), "a server is started once")
	cancel() // the context only bounds the start

	answered := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String(), http.NoBody)
		if err != nil {
			answered <- -1
			return
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			answered <- -1
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-handling
	short, cancelShort := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(short) }()
	close(release)
	require.Equal(t, http.StatusTeapot, <-answered)
	require.NoError(t, <-stopped)
	cancelShort()
	require.NoError(t, s.Stop(t.Context()))
}

// A request that does not end is cut off when the stop's context ends.
func TestHTTPServerStopIsBounded(t *testing.T) {
	t.Parallel()
	handling := make(chan struct{})
	s := service.HTTP("web", "127.0.0.1:0", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(handling)
		<-r.Context().Done()
	}))
	require.NoError(t, s.Start(t.Context()))
	failed := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String(), http.NoBody)
		if err != nil {
			failed <- err
			return
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		failed <- err
	}()
	<-handling
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, s.Stop(ctx), "requests were still running")
	require.Error(t, <-failed)
}

// A server serves a listener it was given, over TLS, and logs a handler that panics.
func TestHTTPServerOverTLS(t *testing.T) {
	t.Parallel()
	donor := httptest.NewTLSServer(http.NotFoundHandler())
	donor.Close() // only its certificate is wanted
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	log, records := logtest.Recorder(t)
	s := service.HTTP("web", "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("boom")
		}
		_, _ = io.WriteString(w, r.Proto)
	}), service.WithHTTPListener(l), service.WithTLS(&tls.Config{Certificates: donor.TLS.Certificates, MinVersion: tls.VersionTLS12}), service.WithHTTPLog(log))
	require.Equal(t, "web", s.Name())
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	transport.TLSClientConfig.RootCAs.AddCert(donor.Certificate())
	t.Cleanup(transport.CloseIdleConnections)
	fetch := func(path string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+path, http.NoBody)
		if err != nil {
			return "", err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(resp.Body)
		return string(body), errors.Join(err, resp.Body.Close())
	}
	proto, err := fetch("/")
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", proto)
	_, err = fetch("/panic")
	require.Error(t, err)
	require.Eventually(t, func() bool { return records.Contains("boom") }, 10*time.Second, time.Millisecond)
}

// A handed-over listener is closed even when the server never started.
func TestHTTPServerClosesItsListener(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := service.HTTP("web", "", http.NotFoundHandler(), service.WithHTTPListener(l))
	require.NoError(t, s.Stop(t.Context()))
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// A server whose listener dies is a failure of the process.
func TestHTTPServerFails(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var g service.Group
	g.Add(service.HTTP("web", "", http.NotFoundHandler(), service.WithHTTPListener(l)))
	require.NoError(t, g.Start(t.Context()))
	require.NoError(t, l.Close())
	require.ErrorContains(t, <-g.Failed(), "web: serve 127.0.0.1:")
	require.NoError(t, g.Stop(t.Context()))
}
