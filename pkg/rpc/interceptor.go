package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/postrider/postrider/pkg/fault"
)

// interceptor is the outermost of a server's interceptors. It is one function per kind of call, not
// a chain, because every accepted event passes through it: it gives the call its request id,
// catches a panic, converts the error once, and logs what nobody else will.
type interceptor struct {
	log *slog.Logger
}

// unary serves one unary call.
func (i *interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	ctx = withRequestID(ctx)
	begin := i.begin(ctx)
	resp, err = i.guardUnary(ctx, req, info.FullMethod, handler)
	if err != nil {
		resp = nil
	}
	return resp, i.end(ctx, info.FullMethod, begin, err)
}

// guardUnary calls the handler and turns a panic into an error.
func (i *interceptor) guardUnary(ctx context.Context, req any, method string, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = i.panicked(ctx, method, r)
		}
	}()
	return handler(ctx, req)
}

// stream serves one stream.
func (i *interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := withRequestID(ss.Context())
	begin := i.begin(ctx)
	err := i.guardStream(srv, &serverStream{ServerStream: ss, ctx: ctx}, info.FullMethod, handler)
	return i.end(ctx, info.FullMethod, begin, err)
}

// guardStream calls the handler and turns a panic into an error.
func (i *interceptor) guardStream(srv any, ss *serverStream, method string, handler grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = i.panicked(ss.ctx, method, r)
		}
	}()
	return handler(srv, ss)
}

// panicked logs a panic with its stack and returns an error that crosses as Internal.
func (i *interceptor) panicked(ctx context.Context, method string, value any) error {
	i.log.ErrorContext(ctx, "a handler panicked",
		slog.String("method", method), slog.String("request_id", RequestID(ctx)),
		slog.String("panic", fmt.Sprint(value)), slog.String("stack", string(debug.Stack())))
	return errPanic
}

// errPanic is the error of a call whose handler panicked; the log has the details.
var errPanic = panicError{}

// panicError crosses as Internal and is not logged a second time.
type panicError struct{}

// Error returns a fixed text.
func (panicError) Error() string { return "the handler panicked" }

// begin returns when a call began, if its end will be logged.
func (i *interceptor) begin(ctx context.Context) time.Time {
	if i.log.Enabled(ctx, slog.LevelDebug) {
		return time.Now()
	}
	return time.Time{}
}

// end converts the error of a call and logs it: every call at debug, and at error those whose
// error has no kind, since its text stays here.
func (i *interceptor) end(ctx context.Context, method string, begin time.Time, err error) error {
	if err == nil && begin.IsZero() {
		return nil
	}
	st := fault.Status(err)
	if err != nil {
		// The id lets whoever sees the error find the log's line. The call may be over already.
		_ = grpc.SetTrailer(ctx, metadata.Pairs(requestIDKey, RequestID(ctx)))
		if st.Code() == codes.Internal && err != error(errPanic) { //nolint:errorlint // identity is what is asked
			i.log.ErrorContext(ctx, "a call failed",
				slog.String("method", method), slog.String("request_id", RequestID(ctx)), slog.Any("error", err))
		}
	}
	if !begin.IsZero() {
		i.log.DebugContext(ctx, "call",
			slog.String("method", method), slog.String("request_id", RequestID(ctx)),
			slog.String("code", st.Code().String()), slog.Duration("took", time.Since(begin)))
	}
	return st.Err()
}

// serverStream is a stream with the context that the interceptor made.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // this is how gRPC hands a stream its context
}

// Context returns the stream's context.
func (s *serverStream) Context() context.Context { return s.ctx }

// notHealth leaves probes and reflection out of traces and metrics.
func notHealth(info *stats.RPCTagInfo) bool {
	return !strings.HasPrefix(info.FullMethodName, "/grpc.health.") && !strings.HasPrefix(info.FullMethodName, "/grpc.reflection.")
}
