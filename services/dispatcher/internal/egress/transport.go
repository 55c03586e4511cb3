package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// given is a connection to an HTTP/2 host that was made before this was known of it.
type given struct {
	mu   sync.Mutex
	conn *tls.Conn
}

type givenKey struct{}

// take gives the connection to the first who asks; nil to others.
func (g *given) take() *tls.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.conn
	g.conn = nil
	return c
}

// connectTLS connects for the transport.
func (c *Client) connectTLS(ctx context.Context, network, hostport string) (net.Conn, error) {
	if g, ok := ctx.Value(givenKey{}).(*given); ok {
		if conn := g.take(); conn != nil {
			return conn, nil
		}
	}
	secure, err := c.handshake(ctx, network, hostport)
	if err != nil {
		return nil, err
	}
	c.http2.learn("https://"+hostport, speaksHTTP2(secure))
	return secure, nil
}

func speaksHTTP2(c *tls.Conn) bool { return c.ConnectionState().NegotiatedProtocol == "h2" }

// roundTrip makes an exchange by the transport, which uses the connection unless it has another.
func (c *Client) roundTrip(ctx context.Context, r *Request, res *Result, w *watch, made *tls.Conn) {
	timed, cancel := context.WithDeadline(ctx, res.Start.Add(r.Timeout))
	defer cancel()
	watched := w.with(timed)
	if made != nil {
		g := &given{conn: made}
		watched = context.WithValue(watched, givenKey{}, g)
		defer func() {
			if unused := g.take(); unused != nil {
				_ = unused.Close() // Nothing was sent over it.
			}
		}()
	}
	response, err := c.transport.RoundTrip(once(newRequest(r), r).WithContext(watched))
	res.Trace = w.end()
	if err != nil {
		c.failed(ctx, err, res)
		return
	}
	defer func() { _ = response.Body.Close() }() // Nothing that was read depends on it.
	if err := checkStatus(response); err != nil {
		c.failed(ctx, err, res)
		return
	}
	c.exchanges.Add(1)
	res.Status = response.StatusCode
	res.Header = response.Header
	limit := time.AfterFunc(c.bodyTimeout, cancel)
	defer limit.Stop()
	c.readBody(response, res)
	res.Duration = time.Since(res.Start)
}

// once has the transport send the request once: it repeats by itself what HTTP calls idempotent.
func once(req *http.Request, r *Request) *http.Request {
	req.Header = onceOnly(r.Header)
	switch {
	case len(r.Body) > 0:
		// Lets the transport use another connection when an idle one turned out to be closed
		// before anything was written to it. It never repeats a request that was written.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	case idempotent(r.Method):
		req.Body = nothing{} // which the transport finds empty, and cannot send twice
	}
	return req
}

// idempotent says whether the transport would repeat a request of the method by itself, after it
// was written, on a connection that ends without an answer. An attempt is one request.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// nothing is the body of a request that has none. Unlike http.NoBody it is not known to be empty.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

func (nothing) Close() error { return nil }

// onceOnly is the header without the names by which the transport takes a request for one that it
// may repeat: a webhook's owner may add them. They are sent in lower case, which means the same.
func onceOnly(h http.Header) http.Header {
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		values, ok := h[name]
		if !ok {
			continue
		}
		h = maps.Clone(h)
		delete(h, name)
		h[strings.ToLower(name)] = values
	}
	return h
}
