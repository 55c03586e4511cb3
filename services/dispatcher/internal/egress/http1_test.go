package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// viaTransport is a header that makes an exchange one for the transport of net/http.
func viaTransport() http.Header { return http.Header{"Te": {"trailers"}} }

func request(tb testing.TB, target string, header http.Header, body int) *egress.Request {
	tb.Helper()
	u, err := url.Parse(target)
	require.NoError(tb, err)
	return &egress.Request{Method: http.MethodPost, URL: u, Header: header, Body: bytes.Repeat([]byte("x"), body), Timeout: 5 * time.Second}
}

// connections serves requests with fixed answers and tells about every connection.
type connections struct {
	address string
	each    chan net.Conn
}

// serveEach answers each request of a connection with the text that comes next, the last one from then on.
func serveEach(tb testing.TB, texts ...string) *connections {
	tb.Helper()
	var config net.ListenConfig
	l, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	s := &connections{l.Addr().String(), make(chan net.Conn, 64)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.each <- conn
			serving.Go(func() { serveConn(conn, texts) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		close(s.each)
		for conn := range s.each {
			_ = conn.Close()
		}
		serving.Wait()
	})
	return s
}

func serveConn(conn net.Conn, texts []string) {
	r := bufio.NewReader(conn)
	for i := 0; ; i++ {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		if _, err := io.WriteString(conn, texts[min(i, len(texts)-1)]); err != nil {
			return
		}
	}
}

const empty200 = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestAConnectionThatItsReceiverClosedIsNotUsed(t *testing.T) {
	t.Parallel()
	s := serveEach(t, empty200)
	client := newClient(t, egress.Options{})
	for n := range int64(5) {
		res := post(t, client, "http://"+s.address)
		require.Equal(t, 200, res.Status, res.Message)
		require.False(t, res.Trace.Reused)
		require.Equal(t, n+1, client.Dialled())
		require.NoError(t, (<-s.each).Close()) // The kernel of this machine knows at once.
	}
}

func TestAConnectionWithUnaskedBytesIsNotUsed(t *testing.T) {
	t.Parallel()
	s := serveEach(t, empty200)
	client := newClient(t, egress.Options{})
	require.Equal(t, 200, post(t, client, "http://"+s.address).Status)
	conn := <-s.each
	defer conn.Close() //nolint:errcheck // the client closes it too
	_, err := io.WriteString(conn, "HTTP/1.1 500 Not Asked For\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	res := post(t, client, "http://"+s.address)
	require.Equal(t, 200, res.Status, res.Message)
	require.Equal(t, int64(2), client.Dialled())
	require.NoError(t, (<-s.each).Close())
}

func TestAnswersThatEndTheirConnection(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"one that says so":               "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"one of HTTP/1.0":                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"one with more behind it":        empty200 + empty200,
		"one that switches the protocol": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveEach(t, text)
			client := newClient(t, egress.Options{})
			for n := range int64(3) {
				require.NotZero(t, post(t, client, "http://"+s.address).Status)
				require.Equal(t, n+1, client.Dialled())
			}
		})
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	t.Run("of a host", func(t *testing.T) {
		t.Parallel()
		client, c := newClient(t, egress.Options{MaxIdlePerHost: 2}), newCrowd(t)
		c.together(t, client, 5)
		require.Equal(t, int64(5), client.Dialled())
		c.together(t, client, 2)
		require.Equal(t, int64(5), client.Dialled(), "two were kept")
		c.together(t, client, 3)
		require.Equal(t, int64(6), client.Dialled(), "and no more")
	})
	t.Run("in all, the longest idle goes", func(t *testing.T) {
		t.Parallel()
		client := newClient(t, egress.Options{MaxIdle: 2})
		var servers []*connections
		for range 3 {
			servers = append(servers, serveEach(t, empty200))
			require.Equal(t, 200, post(t, client, "http://"+servers[len(servers)-1].address).Status)
		}
		require.True(t, post(t, client, "http://"+servers[2].address).Trace.Reused)
		require.True(t, post(t, client, "http://"+servers[1].address).Trace.Reused)
		require.False(t, post(t, client, "http://"+servers[0].address).Trace.Reused)
	})
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		client, s := newClient(t, egress.Options{IdleTimeout: time.Millisecond}), serveEach(t, empty200)
		require.Equal(t, 200, post(t, client, "http://"+s.address).Status)
		_, err := (<-s.each).Read(make([]byte, 1))
		require.Error(t, err, "the client has closed it")
		require.False(t, post(t, client, "http://"+s.address).Trace.Reused)
	})
	t.Run("by the end of the client", func(t *testing.T) {
		t.Parallel()
		client, s := newClient(t, egress.Options{}), serveEach(t, empty200)
		require.Equal(t, 200, post(t, client, "http://"+s.address).Status)
		client.Close()
		_, err := (<-s.each).Read(make([]byte, 1))
		require.Error(t, err, "the client has closed it")
	})
}

// crowd is a receiver that answers when as many requests are out as it was told.
type crowd struct {
	url     string
	in, out chan struct{}
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{in: make(chan struct{}), out: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		c.in <- struct{}{}
		<-c.out
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *crowd) together(t *testing.T, client *egress.Client, n int) {
	t.Helper()
	var exchanges sync.WaitGroup
	for range n {
		exchanges.Go(func() {
			res := client.Do(t.Context(), request(t, c.url, http.Header{}, 1))
			assert.Equal(t, 200, res.Status, res.Message)
		})
	}
	for range n {
		<-c.in
	}
	for range n {
		c.out <- struct{}{}
	}
	exchanges.Wait()
}

// Bodies that a receiver may refuse before it has read them go to the transport, which reads while it writes.
func TestAnAnswerToAHalfReadBodyIsRead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }))
	t.Cleanup(server.Close)
	client := newClient(t, egress.Options{})
	for _, size := range []int{1, 16 << 10, 16<<10 + 1, 200 << 10} {
		res := client.Do(t.Context(), request(t, server.URL, http.Header{}, size))
		require.Equal(t, http.StatusRequestEntityTooLarge, res.Status, "%d bytes: %s", size, res.Message)
	}
}

func TestTheConnectionOnWhichAHostIsFoundToSpeakHTTP2IsUsed(t *testing.T) {
	t.Parallel()
	receiver := receivertest.New(t, receivertest.WithHTTP2())
	client := newClient(t, egress.Options{RootCAs: receiver.RootCAs()})
	for n := range 3 {
		res := client.Do(t.Context(), request(t, receiver.URL, http.Header{}, 10))
		require.Equal(t, 200, res.Status, res.Message)
		require.Equal(t, "HTTP/2.0", receiver.Next(t).Proto)
		require.Equal(t, n > 0, res.Trace.Reused)
		require.Equal(t, n > 0, res.Trace.TLS == 0)
		require.Equal(t, receiver.Addr(), res.Trace.Remote)
	}
	require.Equal(t, int64(1), client.Dialled())
}

func TestConnectionsOverTLSAreReusedToo(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := newClient(t, egress.Options{RootCAs: roots})
	for range 3 {
		res := post(t, client, server.URL)
		require.Equal(t, 200, res.Status, res.Message)
	}
	require.Equal(t, int64(1), client.Dialled())
}

func TestAnExchangeThatIsGivenUpTakesItsConnectionWithIt(t *testing.T) {
	t.Parallel()
	s := serveEach(t, "") // never answers
	client := newClient(t, egress.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	res := client.Do(ctx, request(t, "http://"+s.address, http.Header{}, 10))
	require.True(t, res.Aborted)
	require.Equal(t, postrider.ClassReset, res.Class)
	conn := <-s.each
	_, err := io.Copy(io.Discard, conn)
	require.NoError(t, err, "it was closed")
}

// Whatever a receiver answers, an exchange says the same of it as one of the transport.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{
		empty200, "HTTP/1.1 500 Sorry\r\nContent-Length: 100\r\n\r\nshort", "HTTP/1.1 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "SSH-2.0-x\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nX: y", "",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc", "HTTP/1.1 099 Low\r\n\r\n", "HTTP/1.1 1000 High\r\n\r\n",
		"HTTP/1.1 200 OK\r\nRetry-After: 5\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	var said atomic.Pointer[string]
	address := raw(f, func(conn net.Conn) { answer(*said.Load())(conn) })
	f.Fuzz(func(t *testing.T, text []byte) {
		s := string(text)
		said.Store(&s)
		var results []egress.Result
		for _, header := range []http.Header{{}, viaTransport()} {
			client := newClient(t, egress.Options{})
			results = append(results, client.Do(t.Context(), request(t, "http://"+address, header, 10)))
		}
		own, transport := results[0], results[1]
		require.Equal(t, transport.Status, own.Status, "%s, %s", transport.Message, own.Message)
		require.Equal(t, transport.Class, own.Class, "%s, %s", transport.Message, own.Message)
		require.Equal(t, transport.Header, own.Header)
		require.Equal(t, string(transport.Body), string(own.Body))
		require.Equal(t, transport.Truncated, own.Truncated)
	})
}

// What an exchange costs its side: by the goroutine that wants it, and by the transport of net/http.
func BenchmarkExchange(b *testing.B) {
	for name, header := range map[string]http.Header{"direct": {}, "transport": viaTransport()} {
		b.Run(name, func(b *testing.B) {
			s := serveEach(b, "HTTP/1.1 200 OK\r\nDate: Tue, 01 Dec 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
			guard, err := egress.NewGuard([]string{"127.0.0.0/8"})
			require.NoError(b, err)
			client, err := egress.NewClient(egress.Options{Guard: guard})
			require.NoError(b, err)
			defer client.Close()
			r := request(b, "http://"+s.address+"/hook", header, 1024)
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if res := client.Do(b.Context(), r); res.Status != 200 {
						b.Error(res.Message)
					}
				}
			})
		})
	}
}
