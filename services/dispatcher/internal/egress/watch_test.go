package egress_test

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

func TestAnExchangeSaysWhereItsTimeWent(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	client := newClient(t, egress.Options{RootCAs: roots, Resolver: &resolver{answers: [][]string{{"127.0.0.1"}}}})
	target := "https://example.com:" + port // which the server's certificate names

	first := post(t, client, target)
	require.Equal(t, 200, first.Status, first.Message)
	require.Positive(t, first.Trace.DNS)
	require.Positive(t, first.Trace.Connect)
	require.Positive(t, first.Trace.TLS)
	require.GreaterOrEqual(t, first.Trace.FirstByte, first.Trace.DNS+first.Trace.Connect+first.Trace.TLS)
	require.LessOrEqual(t, first.Trace.FirstByte, first.Duration)
	require.False(t, first.Trace.Reused)
	require.Equal(t, "127.0.0.1:"+port, first.Trace.Remote)

	second := post(t, client, target)
	require.Equal(t, 200, second.Status, second.Message)
	require.Zero(t, second.Trace.DNS+second.Trace.Connect+second.Trace.TLS)
	require.Positive(t, second.Trace.FirstByte)
	require.True(t, second.Trace.Reused)
	require.Equal(t, "127.0.0.1:"+port, second.Trace.Remote)
}

func TestAnExchangeThatFailsSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	client := newClient(t, egress.Options{TLSTimeout: 30 * time.Millisecond})
	res := post(t, client, "https://"+raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }))
	require.Zero(t, res.Status)
	require.Zero(t, res.Trace.DNS)
	require.Positive(t, res.Trace.Connect)
	require.GreaterOrEqual(t, res.Trace.TLS, 30*time.Millisecond)
	require.Zero(t, res.Trace.FirstByte)
}
