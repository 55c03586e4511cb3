// Package restapi serves the public gRPC API as JSON over HTTP, by the routes of proto/http.yaml.
// It calls the gRPC server like any other client, so authentication, limits and error mapping are
// the same on both ways in. It holds no state.
package restapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 8 << 20

// New returns the handler of /v1/, which calls the API over conn.
func New(ctx context.Context, conn *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
		runtime.WithIncomingHeaderMatcher(passHeader),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
	)
	err := errors.Join(
		postriderv1.RegisterAccountServiceHandler(ctx, mux, conn),
		postriderv1.RegisterEventTypeServiceHandler(ctx, mux, conn),
		postriderv1.RegisterWebhookServiceHandler(ctx, mux, conn),
		postriderv1.RegisterDeliveryServiceHandler(ctx, mux, conn),
		postriderv1.RegisterSigningKeyServiceHandler(ctx, mux, conn),
		postriderv1.RegisterLedgerServiceHandler(ctx, mux, conn),
		postriderv1.RegisterReplayServiceHandler(ctx, mux, conn),
		postriderv1.RegisterLogServiceHandler(ctx, mux, conn),
		postriderv1.RegisterActivityServiceHandler(ctx, mux, conn),
		postriderv1.RegisterAuditServiceHandler(ctx, mux, conn),
	)
	if err != nil {
		return nil, err
	}
	return http.MaxBytesHandler(mux, maxBody), nil
}

// passHeader says which request headers reach the gRPC API, and under which name.
func passHeader(name string) (string, bool) {
	switch key := strings.ToLower(textproto.CanonicalMIMEHeaderKey(name)); key {
	case "authorization", "traceparent", "tracestate", "x-request-id":
		return key, true
	}
	return "", false
}

// writeError answers with problem details (RFC 9457).
func writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		err = fault.New(fault.Exhausted, "BODY_TOO_LARGE", "the body is larger than 8 MiB")
	}
	fault.WriteProblem(w, err, r.Header.Get("X-Request-Id"))
}

// writeRoutingError answers for paths and methods that no route has.
func writeRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"type":"about:blank","title":"Method Not Allowed","status":405}`)
	case http.StatusBadRequest:
		fault.WriteProblem(w, fault.New(fault.Invalid, "BAD_REQUEST", "the request cannot be read"), r.Header.Get("X-Request-Id"))
	default:
		fault.WriteProblem(w, fault.New(fault.NotFound, "NO_ROUTE", "no such resource"), r.Header.Get("X-Request-Id"))
	}
}
