package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
)

// Limits on what is read of a response.
const (
	// MaxResponseBody is how much of a response body is read. What is longer is cut, and its
	// connection is not used again.
	MaxResponseBody = 64 << 10
	// MaxRecordedBody is how much of a response body is kept for the attempt's record.
	MaxRecordedBody = 16 << 10
	// maxResponseHeader bounds a response's header section.
	maxResponseHeader = 64 << 10
)

// Options holds what a client is made of.
type Options struct {
	// Guard decides which addresses may be contacted. Required.
	Guard *Guard
	// Resolver resolves names. Default: the system's, without libc.
	Resolver Resolver
	// Proxy is the URL of a forward proxy. Default: none; the environment is never asked.
	Proxy string
	// RootCAs are the roots that receivers' certificates must lead to. Default: the system's.
	RootCAs *x509.CertPool
	// ConnectTimeout bounds name resolution and connecting. Default 5 s.
	ConnectTimeout time.Duration
	// TLSTimeout bounds the handshake. Default 5 s.
	TLSTimeout time.Duration
	// HeaderTimeout bounds the wait for the response's header section after the request was
	// written. Default: the attempt's total timeout alone.
	HeaderTimeout time.Duration
	// BodyTimeout bounds the reading of a response body. Default 5 s.
	BodyTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. Default 60 s.
	IdleTimeout time.Duration
	// MaxIdle is how many unused connections are kept. Default 4096.
	MaxIdle int
	// MaxIdlePerHost is how many unused connections to one host are kept. Default 1024.
	MaxIdlePerHost int
}

func (o *Options) setDefaults() {
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.TLSTimeout, 5*time.Second)
	setDefault(&o.BodyTimeout, 5*time.Second)
	setDefault(&o.IdleTimeout, 60*time.Second)
	setDefault(&o.MaxIdle, 4096)
	setDefault(&o.MaxIdlePerHost, 1024)
}

func setDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// Client makes single HTTP exchanges: no redirects, no cookies, no decompression, and no
// proxies but the configured one. It is safe for concurrent use.
type Client struct {
	transport     *http.Transport
	idle          *idle // of HTTP/1.1
	http2         spoken
	dial          *dialer
	proxy         *proxy
	tls           *tls.Config
	tlsTimeout    time.Duration
	headerTimeout time.Duration
	bodyTimeout   time.Duration
	scratch       sync.Pool
	dialled       atomic.Int64
	exchanges     atomic.Int64
}

// NewClient returns a client. It opens no connection before the first exchange.
func NewClient(opts Options) (*Client, error) {
	if opts.Guard == nil {
		return nil, errors.New("egress: no guard")
	}
	opts.setDefaults()
	c := &Client{
		idle:          newIdle(opts.IdleTimeout, opts.MaxIdle, opts.MaxIdlePerHost),
		dial:          newDialer(opts.Guard, opts.Resolver, opts.ConnectTimeout),
		tlsTimeout:    opts.TLSTimeout,
		headerTimeout: opts.HeaderTimeout,
		bodyTimeout:   opts.BodyTimeout,
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            opts.RootCAs,
			NextProtos:         []string{"h2", "http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(1024),
		},
	}
	c.scratch.New = func() any { return new([MaxRecordedBody]byte) }
	if opts.Proxy != "" {
		p, err := newProxy(opts.Proxy, opts.ConnectTimeout, c.tls)
		if err != nil {
			return nil, fmt.Errorf("egress: %w", err)
		}
		c.proxy = p
	}
	c.transport = &http.Transport{
		DialContext:            c.connect,
		DialTLSContext:         c.connectTLS,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           opts.MaxIdle,
		MaxIdleConnsPerHost:    opts.MaxIdlePerHost,
		IdleConnTimeout:        opts.IdleTimeout,
		ResponseHeaderTimeout:  opts.HeaderTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// A dead HTTP/2 connection would otherwise time out every attempt that shares it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	return c, nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.idle.close()
}

// Dialled is how many connections have been opened so far.
func (c *Client) Dialled() int64 { return c.dialled.Load() }

// Reused is how many exchanges went over a connection that had been opened for another.
func (c *Client) Reused() int64 { return max(c.exchanges.Load()-c.dialled.Load(), 0) }

func (c *Client) connect(ctx context.Context, network, hostport string) (net.Conn, error) {
	var conn net.Conn
	var err error
	if c.proxy != nil {
		conn, err = c.proxy.dial(ctx, c.dial.guard, hostport)
	} else {
		conn, err = c.dial.dial(ctx, network, hostport)
	}
	if err == nil {
		c.dialled.Add(1)
	}
	return conn, err
}

// handshake is done here, rather than by the transport, so that whatever goes wrong in it is known to be TLS.
func (c *Client) handshake(ctx context.Context, network, hostport string) (*tls.Conn, error) {
	conn, err := c.connect(ctx, network, hostport)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		_ = conn.Close() // Unused.
		return nil, fmt.Errorf("%w: %q", ErrBlocked, hostport)
	}
	cfg := c.tls.Clone()
	cfg.ServerName = host
	secure := tls.Client(conn, cfg)
	defer noteTLS(ctx, time.Now())
	ctx, cancel := context.WithTimeout(ctx, c.tlsTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // The handshake failed.
		return nil, &tlsError{err}
	}
	return secure, nil
}

// Request is one exchange to make.
type Request struct {
	Method string
	URL    *url.URL
	// Header is sent as it is, and must not change before Do returns.
	Header http.Header
	// Body is sent as it is; nil sends none.
	Body []byte
	// Timeout bounds the whole exchange.
	Timeout time.Duration
}

// Result is what came of an exchange.
type Result struct {
	// Start is when it began.
	Start time.Time
	// Duration is how long it took.
	Duration time.Duration
	// Status is the response's status, 0 without a response.
	Status int
	// Header is the response's, nil without a response.
	Header http.Header
	// Body is the first MaxRecordedBody bytes of the response's body.
	Body []byte
	// Truncated says that the body was longer, or could not be read to its end.
	Truncated bool
	// Class says why there is no response; ClassNone with one.
	Class postrider.ErrorClass
	// Message tells people more about Class. It holds no URL.
	Message string
	// Trace says where the time went.
	Trace Trace
	// Aborted says that the caller's context ended the exchange: whether the receiver got the
	// request is unknown, and the result says nothing about the receiver.
	Aborted bool
}

// Do makes one exchange. A response counts from its status on: a body that is too long, too slow
// or broken is cut and changes nothing.
func (c *Client) Do(ctx context.Context, r *Request) Result {
	res := Result{Start: time.Now()}
	if key, ok := c.direct(r); ok {
		c.exchange(ctx, key, r, &res)
	} else {
		c.roundTrip(ctx, r, &res, &watch{start: res.Start}, nil)
	}
	return res
}

// failed ends an exchange without an answer.
func (c *Client) failed(ctx context.Context, err error, res *Result) {
	res.Duration = time.Since(res.Start)
	res.Status, res.Header, res.Body = 0, nil, nil
	if cause := ctx.Err(); cause != nil {
		res.Aborted, err = true, cause
	}
	res.Class, res.Message = Classify(err)
}

func newRequest(r *Request) *http.Request {
	req := &http.Request{
		Method:     r.Method,
		URL:        r.URL,
		Host:       r.URL.Host,
		Header:     r.Header,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}
	if len(r.Body) > 0 {
		req.ContentLength = int64(len(r.Body))
		// Header and body are written in one piece only for readers that net/http knows.
		req.Body = io.NopCloser(bytes.NewReader(r.Body))
	} else if r.Body != nil {
		req.Body = http.NoBody
	}
	return req
}

// checkStatus refuses a status that has no meaning (RFC 9110 section 15).
func checkStatus(response *http.Response) error {
	if response.StatusCode < 100 {
		return fmt.Errorf("malformed HTTP status %q", response.Status)
	}
	return nil
}

// readBody reads the response's body to its end if it is short, so that the connection can be
// used again, and gives it up if it is long or slow. Whole says that nothing of it is left.
func (c *Client) readBody(response *http.Response, res *Result) (whole bool) {
	if response.ContentLength == 0 || response.Body == http.NoBody {
		return true
	}
	buf, _ := c.scratch.Get().(*[MaxRecordedBody]byte)
	defer c.scratch.Put(buf)
	n, err := readUntil(response.Body, buf[:], MaxRecordedBody)
	if n > 0 {
		res.Body = append([]byte(nil), buf[:n]...)
	}
	if err == nil {
		var more int
		more, err = readUntil(response.Body, buf[:], MaxResponseBody-MaxRecordedBody+1)
		res.Truncated = more > 0
	}
	whole = errors.Is(err, io.EOF)
	res.Truncated = res.Truncated || !whole
	return whole
}

// readUntil reads up to limit bytes, over and over into buf; err is nil if there may be more.
func readUntil(r io.Reader, buf []byte, limit int) (n int, err error) {
	for n < limit && err == nil {
		at := n % len(buf)
		var m int
		m, err = r.Read(buf[at:min(len(buf), at+limit-n)])
		n += m
	}
	return n, err
}
