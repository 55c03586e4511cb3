// Package caller hands what the caller of an HTTP surface said about itself on to the public gRPC
// API: its credential, and what ties the request to logs and traces. The surfaces decide nothing
// about who may do what; the API that they call does. It holds no state.
package caller

import (
	"context"
	"net/http"

	"google.golang.org/grpc/metadata"
)

// Headers are the request headers that are handed on.
var headers = [...]string{"authorization", "traceparent", "tracestate", "x-request-id"}

// Outgoing is the context of calls that are made for a request with these headers.
func Outgoing(ctx context.Context, h http.Header) context.Context {
	md := metadata.MD{}
	for _, name := range headers {
		if value := h.Get(name); value != "" {
			md.Set(name, value)
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}
