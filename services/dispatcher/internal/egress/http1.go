package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

// The transport of net/http serves each connection with two goroutines, so that one exchange wakes four; with
// receivers that are near that costs more than the exchange. What speaks HTTP/1.1 is therefore asked by the goroutine
// that wants the answer, on its own connections. The standard library still writes the requests and reads the
// responses. What is out of the ordinary goes to the transport: HTTP/2, bodies that a receiver may refuse before it
// has read them, and headers that change how a connection is used.

const (
	// maxDirectBody is the largest request that is written before anything is read: what a connection takes at once
	// even if its receiver reads nothing.
	maxDirectBody = 16 << 10
)

var (
	errHeaderTooLong = errors.New("the response's header is too long")
	// longAgo as a deadline ends what waits for a connection.
	longAgo = time.Unix(1, 0)
)

// conn is a connection that speaks HTTP/1.1. One exchange has it at a time.
type conn struct {
	net.Conn

	key    string // of the host: scheme, host and port
	raw    syscall.RawConn
	remote string
	reader *bufio.Reader
	writer *bufio.Writer
	header int   // bytes that may still be read of a header; less than 0 is no limit
	wrote  int64 // bytes
	served bool  // an exchange

	since      time.Time // it is idle
	prev, next *conn     // of all that are idle
}

func newConn(key string, c net.Conn) *conn {
	n := &conn{Conn: c, key: key, raw: rawConn(c), remote: c.RemoteAddr().String()}
	n.reader, n.writer = bufio.NewReader(n), bufio.NewWriter(n)
	return n
}

// rawConn is the socket under a connection, under TLS too; nil if there is none.
func rawConn(c net.Conn) syscall.RawConn {
	for {
		switch under := c.(type) {
		case syscall.Conn:
			raw, err := under.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }:
			c = under.NetConn()
		default:
			return nil
		}
	}
}

// Read reads, and while a header is read no more than one may have.
func (c *conn) Read(p []byte) (int, error) {
	if c.header < 0 {
		return c.Conn.Read(p)
	}
	if c.header == 0 {
		return 0, errHeaderTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.header)])
	c.header -= n
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote += int64(n)
	return n, err
}

// usable reports whether an idle connection can be used: its receiver has neither closed it nor sent what nobody asked
// for.
func (c *conn) usable() bool {
	if c.raw == nil {
		return false
	}
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// readWithin bounds what is read from now on, unless the deadline of all comes first or the exchange is given up.
func (c *conn) readWithin(ctx context.Context, limit time.Duration, deadline time.Time) {
	until := time.Now().Add(limit)
	if deadline.Before(until) {
		until = deadline
	}
	_ = c.SetReadDeadline(until) // A connection that cannot has failed, which reading tells.
	if ctx.Err() != nil {
		_ = c.SetReadDeadline(longAgo) // Whoever gave it up may have said so before.
	}
}

// direct reports whether the request is one that a goroutine can make alone, to a host that is not known to speak
// HTTP/2; key is what its connections go by.
func (c *Client) direct(r *Request) (key string, ok bool) {
	if len(r.Body) > maxDirectBody || !plain(r) {
		return "", false
	}
	switch r.URL.Scheme {
	case "http":
		return "http://" + address(r.URL), true
	case "https":
		key = "https://" + address(r.URL)
		return key, !c.http2.has(key)
	}
	return "", false
}

// plain reports whether nothing about the request needs the transport: to treat it in a way of its own, or to refuse
// it.
func plain(r *Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet, http.MethodHead:
	default:
		return false
	}
	if r.URL.Host == "" {
		return false
	}
	for i := range len(r.URL.Host) {
		if r.URL.Host[i] <= ' ' || r.URL.Host[i] >= 0x7f {
			return false
		}
	}
	for name, values := range r.Header {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Upgrade", "Expect", "Te", "Trailer", "Transfer-Encoding", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection":
			return false
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// address is the host and port of a URL.
func address(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Host
	case u.Scheme == "http":
		return net.JoinHostPort(u.Hostname(), "80")
	default:
		return net.JoinHostPort(u.Hostname(), "443")
	}
}

// exchange makes one request on a connection that is free, or on one of its own.
func (c *Client) exchange(ctx context.Context, key string, r *Request, res *Result) {
	deadline := res.Start.Add(r.Timeout)
	for {
		n := c.free(key, deadline, res)
		if n == nil {
			w := &watch{start: res.Start}
			made, err := c.open(ctx, r.URL, deadline, w)
			if secure, ok := made.(*tls.Conn); ok && err == nil && speaksHTTP2(secure) {
				c.http2.learn(key, true)
				c.roundTrip(ctx, r, res, w, secure)
				return
			}
			res.Trace = w.end()
			if err != nil {
				c.failed(ctx, err, res)
				return
			}
			n = newConn(key, made)
			res.Trace.Remote = n.remote
			_ = n.SetDeadline(deadline) // A connection that cannot has failed, which using it tells.
		}
		stop := context.AfterFunc(ctx, func() { _ = n.SetDeadline(longAgo) })
		again, whole, err := c.ask(ctx, n, r, deadline, res)
		if !stop() {
			whole = false // its deadline is not its own
		}
		if whole {
			c.idle.put(n)
		} else {
			_ = n.Close() // Nothing that was read depends on it.
		}
		if again && ctx.Err() == nil {
			continue // Nothing was sent: its receiver has closed it just now.
		}
		if err != nil {
			c.failed(ctx, err, res)
		}
		return
	}
}

// free gives a connection that serves nothing just now; nil if there is none.
func (c *Client) free(key string, deadline time.Time, res *Result) *conn {
	for n := c.idle.get(key); n != nil; n = c.idle.get(key) {
		if n.SetDeadline(deadline) == nil && n.usable() {
			res.Trace = Trace{Reused: true, Remote: n.remote}
			return n
		}
		_ = n.Close() // Its receiver has closed it.
	}
	return nil
}

// open connects to the host of the URL.
func (c *Client) open(ctx context.Context, u *url.URL, deadline time.Time, w *watch) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	ctx = context.WithValue(ctx, watchKey{}, w)
	if u.Scheme == "https" {
		secure, err := c.handshake(ctx, "tcp", address(u))
		if err != nil {
			return nil, err
		}
		return secure, nil
	}
	return c.connect(ctx, "tcp", address(u))
}

// ask sends the request and reads its answer. Again says that the connection had been closed before anything was
// sent, whole that it can serve another exchange.
func (c *Client) ask(ctx context.Context, n *conn, r *Request, deadline time.Time, res *Result) (again, whole bool, err error) {
	req := newRequest(r)
	before := n.wrote
	if err = req.Write(n.writer); err == nil {
		err = n.writer.Flush()
	}
	if err != nil {
		return n.served && n.wrote == before && !errors.Is(err, os.ErrDeadlineExceeded), false, err
	}
	if c.headerTimeout > 0 {
		n.readWithin(ctx, c.headerTimeout, deadline)
	}
	n.header = maxResponseHeader
	if _, err = n.reader.Peek(1); err != nil {
		return false, false, err
	}
	res.Trace.FirstByte = time.Since(res.Start)
	response, err := final(n.reader, req) //nolint:bodyclose // to close it is to read it to its end, however long that is
	if err != nil {
		return false, false, err
	}
	n.header, n.served = -1, true
	c.exchanges.Add(1)
	res.Status, res.Header = response.StatusCode, response.Header
	if response.ContentLength < 0 || response.ContentLength > int64(n.reader.Buffered()) {
		n.readWithin(ctx, c.bodyTimeout, deadline)
	}
	whole = c.readBody(response, res)
	res.Duration = time.Since(res.Start)
	return false, whole && !response.Close && response.StatusCode != http.StatusSwitchingProtocols && n.reader.Buffered() == 0, nil
}

// final reads the answer, which others may precede that only inform.
func final(r *bufio.Reader, req *http.Request) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(r, req)
		if err != nil {
			return nil, err
		}
		if response.StatusCode/100 != 1 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, checkStatus(response)
		}
	}
}
