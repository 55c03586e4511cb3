package egress_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

// tunnel is a small CONNECT proxy that remembers what it was asked.
type tunnel struct {
	mu    sync.Mutex
	hosts []string
	auth  []string
}

func (p *tunnel) serve(to string) func(net.Conn) {
	return func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		p.mu.Lock()
		p.hosts = append(p.hosts, req.Host)
		p.auth = append(p.auth, req.Header.Get("Proxy-Authorization"))
		p.mu.Unlock()
		var dialer net.Dialer
		upstream, err := dialer.DialContext(req.Context(), "tcp", to)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(upstream, conn); _ = upstream.Close() })
		both.Go(func() { _, _ = io.Copy(conn, upstream); _ = conn.Close() })
		both.Wait()
	}
}

func TestAForwardProxyIsAskedForATunnelAlsoForPlainHTTP(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RequestURI+" "+r.Host)
	}))
	t.Cleanup(server.Close)
	var p tunnel
	address := raw(t, p.serve(server.Listener.Addr().String()))
	client := newClient(t, egress.Options{
		Guard: allow(t), Proxy: "http://user:secret@" + address, Resolver: &resolver{answers: [][]string{{"127.0.0.1"}}},
	})
	for range 2 {
		res := post(t, client, "http://receiver.example/hook")
		require.Equal(t, 200, res.Status, res.Message)
		require.Equal(t, "/hook receiver.example", string(res.Body))
	}
	client.Close()
	require.Equal(t, []string{"receiver.example:80"}, p.hosts)
	require.Equal(t, []string{"Basic dXNlcjpzZWNyZXQ="}, p.auth)
}

func TestTheProxysFailuresAreNotTheReceivers(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"refused":       answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
		"no gateway":    answer("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
		"credentials":   answer("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
		"closed":        func(net.Conn) {},
		"not HTTP":      answer("hello\r\n\r\n"),
		"early data":    answer("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
		"hangs":         func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"endless":       func(conn net.Conn) { answer("HTTP/1.1 200 OK\r\nX: ")(conn); _, _ = io.Copy(conn, zeros{}) },
		"redirects out": answer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, egress.Options{Proxy: "http://" + raw(t, serve), ConnectTimeout: 200 * time.Millisecond})
			for _, scheme := range []string{"http", "https"} {
				res := post(t, client, scheme+"://receiver.example/")
				require.Equal(t, postrider.ClassProxy, res.Class, res.Message)
				require.Zero(t, res.Status)
			}
		})
	}
}

// zeros is an endless stream of one letter.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestLiteralsAreJudgedBeforeTheProxyIsAsked(t *testing.T) {
	t.Parallel()
	var p tunnel
	address := raw(t, p.serve("127.0.0.1:1"))
	client := newClient(t, egress.Options{Guard: allow(t), Proxy: "http://" + address})
	for _, host := range []string{"127.0.0.1", "[::1]", "2130706433", "localhost", "a.localhost.", "169.254.169.254"} {
		res := post(t, client, "http://"+host+":8080/")
		require.Equal(t, postrider.ClassBlocked, res.Class, res.Message)
	}
	require.Empty(t, p.hosts)
}

func TestAProxyThatIsNoURLIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"http://user:secret@ho st", "socks5://user:secret@x", "://secret", "http://user:secret@"} {
		_, err := egress.NewClient(egress.Options{Guard: allow(t), Proxy: text})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestTheProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	require.Equal(t, 200, post(t, newClient(t, egress.Options{}), server.URL).Status)
}
