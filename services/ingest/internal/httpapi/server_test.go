package httpapi

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/services/ingest/internal/admission"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// slow is a ledger whose verdicts take their time.
type slow struct {
	ledger

	takes time.Duration
}

func (s *slow) Accept(ctx context.Context, req *admission.Request) (*postriderv1.Receipt, error) {
	wait := time.NewTimer(s.takes)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
		return s.ledger.Accept(ctx, req)
	}
}

const impatience = 50 * time.Millisecond

// serve runs the API on a real server.
func serve(t *testing.T, events acceptor) *httptest.Server {
	t.Helper()
	api, err := New(events, Config{MaxDataBytes: 1 << 10, MaxBatch: 3, MaxBatchBytes: 1 << 20, BodyTimeout: impatience})
	require.NoError(t, err)
	server := httptest.NewServer(api.Handler(access.NewAuthenticator(adminKey), nil))
	t.Cleanup(server.Close)
	return server
}

func TestAVerdictMayTakeLongerThanABody(t *testing.T) {
	t.Parallel()
	server := serve(t, &slow{takes: 4 * impatience})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/events?account_id="+string(acc), strings.NewReader(`{"type":"a","data":1}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+adminKey)
	res, err := server.Client().Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusAccepted, res.StatusCode)
}

func TestABodyThatDoesNotArriveIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, &ledger{})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /v1/events?account_id="+string(acc)+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+adminKey+
		"\r\nContent-Length: 100\r\n\r\n{\"type\"")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusRequestTimeout, res.StatusCode, string(body))
}
