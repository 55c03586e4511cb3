package access

import (
	"context"
	"maps"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
)

const (
	metadataKey = "authorization"
	// openPrefix is gRPC's own services (health, reflection), which need no credential: they show
	// nothing that the published API does not.
	openPrefix = "/grpc."
)

// Unary holds each call to the scope that rules give for its full method name
// ("/postrider.v1.EventService/PublishEvent") and puts the principal into its context. A method
// without a rule is closed to everybody: forgetting a rule must not open it.
func Unary(a *Authenticator, rules map[string]postrider.Scope) grpc.UnaryServerInterceptor {
	g := newGate(a, rules)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if g.open(info.FullMethod) {
			return next(ctx, req)
		}
		p, _, err := g.admit(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return next(NewContext(ctx, p), req)
	}
}

// Stream is Unary for calls that stream. The key is checked again with each message that arrives,
// so that a revoked or expired key stops within a stream too.
func Stream(a *Authenticator, rules map[string]postrider.Scope) grpc.StreamServerInterceptor {
	g := newGate(a, rules)
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if g.open(info.FullMethod) {
			return next(srv, ss)
		}
		p, recheck, err := g.admit(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return next(srv, &guardedStream{
			ServerStream: ss,
			ctx:          NewContext(ss.Context(), p),
			recheck:      recheck,
		})
	}
}

// HTTP authenticates requests and puts the principal into their context; what fails is answered
// with problem details (RFC 9457). Scopes are the handlers' own: see Principal.Require.
func HTTP(a *Authenticator, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.Authenticate(r.Header.Get("Authorization"))
		if err != nil {
			fault.WriteProblem(w, err, "")
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), p)))
	})
}

// gate is what Unary and Stream share.
type gate struct {
	auth  *Authenticator
	rules map[string]postrider.Scope
}

func newGate(a *Authenticator, rules map[string]postrider.Scope) *gate {
	return &gate{auth: a, rules: maps.Clone(rules)}
}

func (g *gate) open(method string) bool { return strings.HasPrefix(method, openPrefix) }

// admit authenticates before it looks at the rule, so that who has no key learns nothing.
func (g *gate) admit(ctx context.Context, method string) (Principal, func() error, error) {
	var header string
	if values := metadata.ValueFromIncomingContext(ctx, metadataKey); len(values) > 0 {
		header = values[0]
	}
	p, recheck, err := g.auth.authenticate(header)
	if err != nil {
		return Principal{}, nil, err
	}
	scope, ok := g.rules[method]
	if !ok || p.Methods != nil && !p.Methods[method] {
		return Principal{}, nil, fault.New(fault.Denied, ReasonMethodClosed, "the method is not open to callers")
	}
	if err := p.Require(scope); err != nil {
		return Principal{}, nil, err
	}
	return p, recheck, nil
}

// guardedStream carries the principal and looks at its key again with each message.
type guardedStream struct {
	grpc.ServerStream
	ctx     context.Context //nolint:containedctx // gRPC hands a stream's context on through its method
	recheck func() error
}

// Context carries the principal.
func (s *guardedStream) Context() context.Context { return s.ctx }

// RecvMsg receives the next message and then checks the key, so that no message that arrives
// after the key was revoked is acted on.
func (s *guardedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.recheck()
}
