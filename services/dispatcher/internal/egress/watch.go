package egress

import (
	"context"
	"net/http/httptrace"
	"sync"
	"time"
)

// Trace is where an exchange's time went; 0 for a phase that did not take place. A phase that was
// cut off counts as long as it lasted.
type Trace struct {
	// DNS is how long the name was resolved.
	DNS time.Duration
	// Connect is how long it took to connect, to a proxy with its tunnel.
	Connect time.Duration
	// TLS is how long the receiver's handshake took.
	TLS time.Duration
	// FirstByte is the time from the exchange's start to the first byte of the response.
	FirstByte time.Duration
	// Reused says that the request went over a connection that had served another.
	Reused bool
	// Remote is the address and port that the connection leads to.
	Remote string
}

// watch sees the phases of one exchange. The transport dials on a goroutine of its own, which may
// outlive the exchange: what is noted is guarded, what comes too late is dropped, and no watch is
// used twice.
type watch struct {
	start time.Time
	trace httptrace.ClientTrace

	mu    sync.Mutex
	seen  Trace
	ended bool
}

// end gives what was seen.
func (w *watch) end() Trace {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	return w.seen
}

type watchKey struct{}

// with is a context in which the transport and the dialer tell the watch.
func (w *watch) with(ctx context.Context) context.Context {
	w.trace.GotConn, w.trace.GotFirstResponseByte = w.gotConn, w.gotFirstByte
	return context.WithValue(httptrace.WithClientTrace(ctx, &w.trace), watchKey{}, w)
}

func (w *watch) gotConn(info httptrace.GotConnInfo) {
	w.note(func(t *Trace) {
		t.Reused = info.Reused
		if info.Conn != nil {
			t.Remote = info.Conn.RemoteAddr().String()
		}
	})
}

func (w *watch) gotFirstByte() {
	w.note(func(t *Trace) { t.FirstByte = time.Since(w.start) })
}

func (w *watch) note(fn func(*Trace)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		fn(&w.seen)
	}
}

// dialled notes a phase of the dialing that a context belongs to.
func dialled(ctx context.Context, fn func(*Trace)) {
	if w, ok := ctx.Value(watchKey{}).(*watch); ok {
		w.note(fn)
	}
}

func noteDNS(ctx context.Context, begun time.Time) {
	dialled(ctx, func(t *Trace) { t.DNS = time.Since(begun) })
}

func noteConnect(ctx context.Context, begun time.Time) {
	dialled(ctx, func(t *Trace) { t.Connect = time.Since(begun) })
}

func noteTLS(ctx context.Context, begun time.Time) {
	dialled(ctx, func(t *Trace) { t.TLS = time.Since(begun) })
}
