package dispatcher_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher"
)

// resolver answers every question with a code of DNS, over UDP.
func resolver(t *testing.T, code byte) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2], buf[3] = buf[2]|0x80, code // the question, as an answer with none
			_, _ = conn.WriteTo(buf[:n], from) // who asked may be gone
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return to(conn.LocalAddr().String())
}

func to(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
}

func TestAResolverIsAskedWhatNobodyKnows(t *testing.T) {
	t.Parallel()
	const noSuchName, refused = 3, 5
	require.NoError(t, dispatcher.CheckResolver(t.Context(), resolver(t, noSuchName)))
	require.Error(t, dispatcher.CheckResolver(t.Context(), resolver(t, refused)))
	gone, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	require.Error(t, dispatcher.CheckResolver(t.Context(), to(gone.LocalAddr().String())))
}

func TestReachGoesThroughTheGuard(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Method }))
	t.Cleanup(receiver.Close)
	cfg := dispatcher.Default().Egress
	got, err := dispatcher.Reach(t.Context(), cfg, receiver.URL)
	require.NoError(t, err)
	require.Equal(t, postrider.ClassBlocked, got.Class)
	require.Empty(t, asked)

	cfg.AllowNetworks = []string{"127.0.0.1", "10.0.0.0/8", "8.8.8.0/24", "::1/128"}
	require.Equal(t, []string{"127.0.0.1", "10.0.0.0/8", "::1/128"}, cfg.Opened())
	got, err = dispatcher.Reach(t.Context(), cfg, receiver.URL)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, got.Status)
	require.Equal(t, http.MethodHead, <-asked)

	_, err = dispatcher.Reach(t.Context(), cfg, "receiver.example.com")
	require.Error(t, err)
	require.NoError(t, dispatcher.CheckEgress(cfg))
	cfg.Proxy = conf.Secret("nonsense://")
	require.Error(t, dispatcher.CheckEgress(cfg))
}
