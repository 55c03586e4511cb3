package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ProxyError says that the forward proxy failed or refused, and that the receiver was not reached.
type ProxyError struct {
	// Status is the proxy's answer to CONNECT, 0 if it gave none.
	Status int
	// Err is what happened, if the proxy gave no answer.
	Err error
}

// Error tells what the proxy did.
func (e *ProxyError) Error() string {
	if e.Err != nil {
		return "forward proxy: " + e.Err.Error()
	}
	return fmt.Sprintf("forward proxy answered %d to CONNECT", e.Status)
}

// Unwrap returns what happened, if the proxy gave no answer.
func (e *ProxyError) Unwrap() error { return e.Err }

// proxy opens tunnels. It asks for a tunnel for http URLs too, so that an answer of the proxy can
// never be taken for an answer of the receiver.
type proxy struct {
	address string // host:port of the proxy
	tls     *tls.Config
	auth    string
	timeout time.Duration
	net     net.Dialer
}

// newProxy reads the URL of a forward proxy: http or https, with an optional user and password.
func newProxy(raw string, timeout time.Duration, roots *tls.Config) (*proxy, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse repeats the URL, which may hold a password.
		return nil, errors.New("proxy is not a URL")
	}
	p := &proxy{timeout: timeout}
	port := u.Port()
	switch u.Scheme {
	case "http":
		port = orDefault(port, "80")
	case "https":
		port = orDefault(port, "443")
		p.tls = roots.Clone()
		p.tls.ServerName = u.Hostname()
		p.tls.NextProtos = nil
	default:
		return nil, errors.New("proxy must be an http or https URL")
	}
	if u.Hostname() == "" {
		return nil, errors.New("proxy has no host")
	}
	p.address = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		password, _ := u.User.Password()
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return p, nil
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// dial opens a tunnel to hostport. Names are resolved and judged by the proxy; literals and
// irregular forms of addresses are judged here as well.
func (p *proxy) dial(ctx context.Context, guard *Guard, hostport string) (net.Conn, error) {
	if err := checkLiteral(guard, hostport); err != nil {
		return nil, err
	}
	defer noteConnect(ctx, time.Now())
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	conn, err := p.net.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, &ProxyError{Err: err}
	}
	// CONNECT is read and written without a context: closing the connection ends both.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := p.connect(ctx, conn, hostport)
	if !stop() && err == nil {
		err = &ProxyError{Err: context.Cause(ctx)}
	}
	if err != nil {
		_ = conn.Close() // The tunnel failed; there is nothing left to close well.
		return nil, err
	}
	return tunnel, nil
}

func checkLiteral(guard *Guard, hostport string) error {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrBlocked, hostport)
	}
	addr, ok, err := literal(host)
	if err != nil {
		return err
	}
	if ok {
		return guard.Check(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return fmt.Errorf("%w: %s is the proxy itself", ErrBlocked, name)
	}
	return nil
}

func (p *proxy) connect(ctx context.Context, conn net.Conn, hostport string) (net.Conn, error) {
	if p.tls != nil {
		secure := tls.Client(conn, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &ProxyError{Err: err}
		}
		conn = secure
	}
	req := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: hostport},
		Host:   hostport,
		Header: http.Header{},
	}
	if p.auth != "" {
		req.Header.Set("Proxy-Authorization", p.auth)
	}
	if err := req.Write(conn); err != nil {
		return nil, &ProxyError{Err: err}
	}
	reader := bufio.NewReader(&limitedConn{Conn: conn, left: maxConnectAnswer})
	res, err := http.ReadResponse(reader, req)
	if err != nil {
		return nil, &ProxyError{Err: err}
	}
	_ = res.Body.Close() // An answer to CONNECT has no body that matters.
	if res.StatusCode != http.StatusOK {
		return nil, &ProxyError{Status: res.StatusCode}
	}
	if reader.Buffered() > 0 {
		return nil, &ProxyError{Err: errors.New("sent data before the tunnel was used")}
	}
	return conn, nil
}

// maxConnectAnswer bounds what a proxy may send in answer to CONNECT.
const maxConnectAnswer = 64 << 10

type limitedConn struct {
	net.Conn
	left int
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("answer to CONNECT is too long")
	}
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.left -= n
	return n, err
}
