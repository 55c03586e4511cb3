package egress_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

// resolver answers with each list in turn, and with the last one from then on.
type resolver struct {
	calls   atomic.Int64
	answers [][]string
	err     error
}

func (r *resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	n := int(r.calls.Add(1)) - 1
	if r.err != nil {
		return nil, r.err
	}
	var out []netip.Addr
	for _, s := range r.answers[min(n, len(r.answers)-1)] {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func newClient(t *testing.T, opts egress.Options) *egress.Client {
	t.Helper()
	if opts.Guard == nil {
		opts.Guard = allow(t, "127.0.0.0/8", "::1")
	}
	client, err := egress.NewClient(opts)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func allow(t *testing.T, list ...string) *egress.Guard {
	t.Helper()
	guard, err := egress.NewGuard(list)
	require.NoError(t, err)
	return guard
}

func post(t *testing.T, client *egress.Client, target string) egress.Result {
	t.Helper()
	return exchange(t, client, target, 5*time.Second)
}

func exchange(t *testing.T, client *egress.Client, target string, timeout time.Duration) egress.Result {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	return client.Do(t.Context(), &egress.Request{
		Method: http.MethodPost, URL: u, Header: http.Header{"X-Test": {"1"}}, Body: []byte(`{"a":1}`), Timeout: timeout,
	})
}

// raw serves each connection with the function; connections end when the test does.
func raw(tb testing.TB, serve func(net.Conn)) (address string) {
	tb.Helper()
	ctx := tb.Context()
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			serve(conn)
			stop()
			_ = conn.Close()
		}
	}()
	tb.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return listener.Addr().String()
}

// answer reads a request and writes the text.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		// A request that is still being written when its answer comes may fail either way.
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(conn, text)
	}
}

func TestAnExchangeSendsExactlyWhatItWasGiven(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, path, query, body, host string
		length                          int64
		encoding                        []string
		header                          http.Header
	}
	got := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.URL.Path, r.URL.RawQuery, string(b), r.Host, r.ContentLength, r.TransferEncoding, r.Header}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "fine")
	}))
	t.Cleanup(server.Close)
	res := post(t, newClient(t, egress.Options{}), server.URL+"/hook?x=a%20b")
	require.Equal(t, http.StatusAccepted, res.Status)
	require.Equal(t, postrider.ClassNone, res.Class)
	require.Equal(t, "fine", string(res.Body))
	require.False(t, res.Truncated)
	require.Equal(t, "yes", res.Header.Get("X-Answer"))
	require.Positive(t, res.Duration)
	s := <-got
	require.Equal(t, "POST", s.method)
	require.Equal(t, "/hook", s.path)
	require.Equal(t, "x=a%20b", s.query)
	require.JSONEq(t, `{"a":1}`, s.body)
	require.Equal(t, int64(7), s.length)
	require.Empty(t, s.encoding)
	require.Equal(t, "1", s.header.Get("X-Test"))
	require.Empty(t, s.header.Get("Accept-Encoding"))
	require.Equal(t, strings.TrimPrefix(server.URL, "http://"), s.host)
}

func TestConnectionsAreReusedAfterShortBodies(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, egress.MaxResponseBody))
	}))
	t.Cleanup(server.Close)
	client := newClient(t, egress.Options{})
	for range 10 {
		res := post(t, client, server.URL)
		require.Equal(t, 200, res.Status)
		require.Len(t, res.Body, egress.MaxRecordedBody)
		require.True(t, res.Truncated)
	}
	require.Equal(t, int64(1), client.Dialled())
}

func TestAGigabyteIsNotRead(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 1024 {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	res := post(t, newClient(t, egress.Options{}), server.URL)
	require.Equal(t, 200, res.Status)
	require.Equal(t, postrider.ClassNone, res.Class)
	require.True(t, res.Truncated)
	require.Len(t, res.Body, egress.MaxRecordedBody)
	server.Close() // Waits for the handler.
	require.Less(t, sent.Load(), int64(64<<20))
}

func TestABodyIsCutInTimeAndTheStatusStands(t *testing.T) {
	t.Parallel()
	address := raw(t, func(conn net.Conn) {
		answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ndrip")(conn)
		_, _ = conn.Read(make([]byte, 1)) // Until the client gives the connection up.
	})
	res := post(t, newClient(t, egress.Options{BodyTimeout: 20 * time.Millisecond}), "http://"+address)
	require.Equal(t, 200, res.Status)
	require.Equal(t, "drip", string(res.Body))
	require.True(t, res.Truncated)
}

func TestResponsesThatAreNotWhole(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		serve  func(net.Conn)
		status int
		class  postrider.ErrorClass
	}{
		"a length that was a lie leaves the status": {
			answer("HTTP/1.1 204 No Content\r\nContent-Length: 100\r\n\r\nshort"), 204, postrider.ClassNone,
		},
		"a body shorter than its length leaves the status": {
			answer("HTTP/1.1 500 Sorry\r\nContent-Length: 100\r\n\r\nshort"), 500, postrider.ClassNone,
		},
		"informational responses are judged by the final one": {
			answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"), 201, postrider.ClassNone,
		},
		"switching protocols is an answer": {
			answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), 101, postrider.ClassNone,
		},
		"a connection that closes at once is a reset":           {func(net.Conn) {}, 0, postrider.ClassReset},
		"a connection that closes after the request is a reset": {answer(""), 0, postrider.ClassReset},
		"a connection that closes in the header is a reset":     {answer("HTTP/1.1 200 OK\r\nX: y\r\n"), 0, postrider.ClassReset},
		"a TCP reset is a reset": {func(conn net.Conn) {
			answer("")(conn)
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		}, 0, postrider.ClassReset},
		"another protocol is a protocol error": {answer("220 smtp.example.com ESMTP\r\n"), 0, postrider.ClassProtocol},
		"a header without end is a protocol error": {
			answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1<<20)), 0, postrider.ClassProtocol,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := post(t, newClient(t, egress.Options{}), "http://"+raw(t, test.serve))
			require.Equal(t, test.status, res.Status, res.Message)
			require.Equal(t, test.class, res.Class, res.Message)
			require.False(t, res.Aborted)
		})
	}
}

func TestRedirectsAreNeverFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 304, 307, 308} {
		var inside atomic.Int64
		target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
		server := httptest.NewServer(http.RedirectHandler(target.URL, status))
		res := post(t, newClient(t, egress.Options{}), server.URL)
		require.Equal(t, status, res.Status)
		require.Equal(t, target.URL, res.Header.Get("Location"))
		server.Close()
		target.Close()
		require.Zero(t, inside.Load())
	}
}

func TestTimeLimits(t *testing.T) {
	t.Parallel()
	hang := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	t.Run("a receiver that hangs", func(t *testing.T) {
		t.Parallel()
		res := exchange(t, newClient(t, egress.Options{}), "http://"+raw(t, hang), 30*time.Millisecond)
		require.Equal(t, postrider.ClassTimeout, res.Class, res.Message)
		require.GreaterOrEqual(t, res.Duration, 30*time.Millisecond)
		require.False(t, res.Aborted)
	})
	t.Run("a receiver whose header drips", func(t *testing.T) {
		t.Parallel()
		address := raw(t, func(conn net.Conn) {
			answer("HTTP/1.1 200 OK\r\n")(conn)
			for _, err := io.WriteString(conn, "X: y\r\n"); err == nil; _, err = io.WriteString(conn, "X: y\r\n") {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					return
				}
			}
		})
		res := exchange(t, newClient(t, egress.Options{}), "http://"+address, 30*time.Millisecond)
		require.Equal(t, postrider.ClassTimeout, res.Class, res.Message)
	})
	t.Run("a header that does not come in its own time", func(t *testing.T) {
		t.Parallel()
		client := newClient(t, egress.Options{HeaderTimeout: 20 * time.Millisecond})
		res := post(t, client, "http://"+raw(t, hang))
		require.Equal(t, postrider.ClassTimeout, res.Class, res.Message)
	})
	t.Run("a handshake that hangs", func(t *testing.T) {
		t.Parallel()
		client := newClient(t, egress.Options{TLSTimeout: 20 * time.Millisecond})
		res := post(t, client, "https://"+raw(t, hang))
		require.Equal(t, postrider.ClassTimeout, res.Class, res.Message)
	})
	t.Run("a caller that gives up is no timeout", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		address := raw(t, func(conn net.Conn) {
			answer("")(conn)
			cancel()
			hang(conn)
		})
		u := &url.URL{Scheme: "http", Host: address}
		res := newClient(t, egress.Options{}).Do(ctx, &egress.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Timeout: time.Minute})
		require.True(t, res.Aborted)
		require.NotEqual(t, postrider.ClassTimeout, res.Class)
	})
}

func TestFailuresToConnect(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())

	res := post(t, newClient(t, egress.Options{}), "http://"+closed)
	require.Equal(t, postrider.ClassConnect, res.Class, res.Message)

	missing := &resolver{err: &net.DNSError{Err: "no such host", Name: "nowhere.example", Server: "10.9.8.7:53", IsNotFound: true}}
	res = post(t, newClient(t, egress.Options{Resolver: missing}), "http://nowhere.example/")
	require.Equal(t, postrider.ClassDNS, res.Class)
	require.Equal(t, "lookup nowhere.example: no such host", res.Message)

	slow := &resolver{err: &net.DNSError{Err: "i/o timeout", Name: "slow.example", IsTimeout: true}}
	res = post(t, newClient(t, egress.Options{Resolver: slow}), "http://slow.example/")
	require.Equal(t, postrider.ClassDNS, res.Class, res.Message)

	empty := &resolver{answers: [][]string{{}}}
	res = post(t, newClient(t, egress.Options{Resolver: empty}), "http://empty.example/")
	require.Equal(t, postrider.ClassDNS, res.Class, res.Message)
}

func TestTheSecondAddressIsTriedWhenTheFirstRefuses(t *testing.T) {
	t.Parallel()
	address := raw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	two := &resolver{answers: [][]string{{"127.0.0.9", "127.0.0.1"}}}
	res := post(t, newClient(t, egress.Options{Resolver: two}), "http://two.example:"+port)
	require.Equal(t, 200, res.Status, res.Message)
}

func TestForbiddenAddressesGetNoPacket(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	address := raw(t, func(net.Conn) { reached.Add(1) })
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		host    string
		answers []string
	}{
		"loopback":                         {"127.0.0.1", nil},
		"loopback in IPv6":                 {"[::1]", nil},
		"mapped":                           {"[::ffff:7f00:1]", nil},
		"mapped, dotted":                   {"[::ffff:127.0.0.1]", nil},
		"two parts":                        {"127.1", []string{"127.0.0.1"}},
		"hexadecimal":                      {"0x7f.1", []string{"127.0.0.1"}},
		"hexadecimal last":                 {"127.0.0.0x1", []string{"127.0.0.1"}},
		"one number":                       {"2130706433", []string{"127.0.0.1"}},
		"octal":                            {"0177.0.0.01", []string{"127.0.0.1"}},
		"final dot":                        {"127.0.0.1.", []string{"127.0.0.1"}},
		"an irregular form of public":      {"134744072", []string{"8.8.8.8"}},
		"localhost":                        {"localhost", []string{"127.0.0.1", "::1"}},
		"a name for loopback":              {"inside.example", []string{"127.0.0.1"}},
		"a name for mapped loopback":       {"inside.example", []string{"::ffff:127.0.0.1"}},
		"public and private":               {"both.example", []string{"93.184.215.14", "127.0.0.1"}},
		"private and public":               {"both.example", []string{"127.0.0.1", "93.184.215.14"}},
		"metadata":                         {"169.254.169.254", nil},
		"a name for metadata":              {"meta.example", []string{"fd00:ec2::254"}},
		"link-local with a zone":           {"zone.example", []string{"fe80::1%lo"}},
		"unspecified":                      {"0.0.0.0", nil},
		"unspecified in IPv6":              {"[::]", nil},
		"translated":                       {"[64:ff9b::7f00:1]", nil},
		"6to4":                             {"[2002:7f00:1::]", nil},
		"a name with an empty last label.": {"127.0.0.1..", []string{"127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, egress.Options{Guard: allow(t), Resolver: &resolver{answers: [][]string{test.answers}}})
			for _, scheme := range []string{"http", "https"} {
				res := post(t, client, scheme+"://"+test.host+":"+port+"/")
				require.Equal(t, postrider.ClassBlocked, res.Class, res.Message)
			}
			require.Zero(t, client.Dialled())
		})
	}
	t.Cleanup(func() { require.Zero(t, reached.Load()) })
}

// A name that is public when first asked and internal when asked again: the address that was
// checked is the one that is dialled, and a new connection is checked anew.
func TestRebindingGainsNothing(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	address := raw(t, func(net.Conn) { reached.Add(1) })
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	rebinding := &resolver{answers: [][]string{{"203.0.113.1"}, {"127.0.0.1"}}}
	// 203.0.113.1 stands for a public address that does not answer.
	client := newClient(t, egress.Options{Guard: allow(t, "203.0.113.1"), Resolver: rebinding, ConnectTimeout: 50 * time.Millisecond})
	first := post(t, client, "http://rebind.example:"+port)
	require.Contains(t, []postrider.ErrorClass{postrider.ClassTimeout, postrider.ClassConnect}, first.Class, first.Message)
	require.Equal(t, int64(1), rebinding.calls.Load())
	second := post(t, client, "http://rebind.example:"+port)
	require.Equal(t, postrider.ClassBlocked, second.Class, second.Message)
	require.Equal(t, int64(2), rebinding.calls.Load())
	require.Zero(t, reached.Load())
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	here := &resolver{answers: [][]string{{"127.0.0.1"}}}

	t.Run("an unknown authority is a TLS failure", func(t *testing.T) {
		t.Parallel()
		res := post(t, newClient(t, egress.Options{}), server.URL)
		require.Equal(t, postrider.ClassTLS, res.Class, res.Message)
	})
	t.Run("a certificate for another name is a TLS failure", func(t *testing.T) {
		t.Parallel()
		client := newClient(t, egress.Options{RootCAs: roots, Resolver: here})
		res := post(t, client, "https://other.test:"+port)
		require.Equal(t, postrider.ClassTLS, res.Class, res.Message)
	})
	t.Run("a server without TLS is a TLS failure", func(t *testing.T) {
		t.Parallel()
		res := post(t, newClient(t, egress.Options{}), "https://"+raw(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}))
		require.Equal(t, postrider.ClassTLS, res.Class, res.Message)
	})
	t.Run("a handshake cut short is a TLS failure", func(t *testing.T) {
		t.Parallel()
		res := post(t, newClient(t, egress.Options{}), "https://"+raw(t, func(net.Conn) {}))
		require.Equal(t, postrider.ClassTLS, res.Class, res.Message)
	})
	t.Run("the name goes into the handshake and HTTP/2 shares a connection", func(t *testing.T) {
		t.Parallel()
		client := newClient(t, egress.Options{RootCAs: roots, Resolver: here})
		for range 5 {
			res := post(t, client, "https://example.com:"+port)
			require.Equal(t, 200, res.Status, res.Message)
			require.Equal(t, "HTTP/2.0", string(res.Body))
		}
		require.Equal(t, int64(1), client.Dialled())
	})
}

func TestHTTP2StreamThatIsResetIsAReset(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	res := post(t, newClient(t, egress.Options{RootCAs: roots}), server.URL)
	require.Equal(t, postrider.ClassReset, res.Class, res.Message)
}

func TestClassifyClipsWhatItTells(t *testing.T) {
	t.Parallel()
	class, message := egress.Classify(errors.New(strings.Repeat("é", 1000)))
	require.Equal(t, postrider.ClassProtocol, class)
	require.LessOrEqual(t, len(message), 256)
	require.True(t, strings.HasPrefix(message, "éé"))
}
