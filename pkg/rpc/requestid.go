package rpc

import (
	"context"
	"crypto/rand"
	"sync"

	"google.golang.org/grpc/metadata"
)

// requestIDKey is the metadata key, and HTTP header in lower case, of a request id.
const requestIDKey = "x-request-id"

// maxRequestID bounds the ids that callers choose.
const maxRequestID = 128

// requestKey is the context key of a request id.
type requestKey struct{}

// requestID is an id that is made when it is first asked for: most calls never are.
type requestID struct {
	once sync.Once
	id   string
}

// get returns the id.
func (r *requestID) get() string {
	r.once.Do(func() {
		if r.id == "" {
			r.id = rand.Text()
		}
	})
	return r.id
}

// RequestID returns the id of the request that the context belongs to: the caller's own, if it sent
// one that can be logged, or a random one. It is empty outside a request.
func RequestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*requestID); ok {
		return r.get()
	}
	return ""
}

// ContextWithRequestID returns a context for a request that came in some other way, such as over
// HTTP. An id that cannot be logged is replaced.
func ContextWithRequestID(ctx context.Context, id string) context.Context {
	r := &requestID{}
	if validRequestID(id) {
		r.id = id
	}
	return context.WithValue(ctx, requestKey{}, r)
}

// withRequestID returns a context with the id that the caller sent, or one to be made.
func withRequestID(ctx context.Context) context.Context {
	id := ""
	if values := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(values) > 0 {
		id = values[0]
	}
	return ContextWithRequestID(ctx, id)
}

// outgoing returns a context whose call carries the request's id on, if it belongs to a request.
func outgoing(ctx context.Context) context.Context {
	id := RequestID(ctx)
	if id == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, requestIDKey, id)
}

// validRequestID reports whether an id is short and plain enough to log and to send on.
func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
