package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/telemetry"
)

// InMemoryTarget is the target of clients of an in-memory listener.
const InMemoryTarget = "passthrough:///memory"

// connectTimeout bounds one try to connect.
const connectTimeout = 5 * time.Second

// memoryBuffer is how much an in-memory connection holds on its way.
const memoryBuffer = 1 << 20

// ClientConfig says which service to call and how.
type ClientConfig struct {
	Target     string `conf:"target" help:"host:port of the service; every address its name resolves to is used in turn; static:///host:port,host:port lists them"`
	CAFile     string `conf:"tls-ca-file" help:"PEM file of the CAs that the server's certificate must come from; empty calls in clear text"`
	CertFile   string `conf:"tls-cert-file" help:"PEM file of the client's certificate"`
	KeyFile    string `conf:"tls-key-file" help:"PEM file of the client's private key"`
	ServerName string `conf:"tls-server-name" help:"name that the server's certificate must have, in place of the target's host"`
}

// Validate returns every fault.
func (c ClientConfig) Validate() error {
	return errors.Join(
		conf.NotEmpty("target", c.Target),
		conf.Rule((c.CertFile == "") == (c.KeyFile == ""), "tls-key-file", "must be set exactly when tls-cert-file is"),
		conf.Rule(c.CertFile == "" || c.CAFile != "", "tls-ca-file", "must be set with tls-cert-file"),
		conf.Rule(c.ServerName == "" || c.CAFile != "", "tls-server-name", "must be set only with tls-ca-file"),
	)
}

// Dial returns a connection, which connects when it is first used. Calls that only read are tried
// again when the server is unavailable; all others are sent once. Errors are *fault.Error where
// the server's were.
func Dial(cfg ClientConfig, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	creds := insecure.NewCredentials()
	if cfg.CAFile != "" {
		secured, err := clientTLS(cfg)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", cfg.Target, err)
		}
		creds = secured
	}
	policy, err := serviceConfig()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Target, err)
	}
	target := cfg.Target
	if !strings.Contains(target, ":///") && !strings.HasPrefix(target, "unix:") {
		target = "dns:///" + target
	}
	all := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(policy),
		grpc.WithDisableServiceConfig(), // DNS records do not configure us
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect(), MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageSize), grpc.MaxCallSendMsgSize(MaxMessageSize)),
		grpc.WithChainUnaryInterceptor(clientUnary),
		grpc.WithChainStreamInterceptor(clientStream),
	}, opts...)
	if addresses := staticResolver(target); addresses != nil {
		all = append(all, grpc.WithResolvers(addresses))
	}
	cc, err := grpc.NewClient(target, all...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Target, err)
	}
	return cc, nil
}

// reconnect paces the tries to reach a server that is away. Callers are answered at once meanwhile,
// that it is unavailable; with gRPC's own two minutes between tries, a server that is back would
// not be found for as long.
func reconnect() backoff.Config {
	return backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
}

// ClientTelemetry measures and traces a client's calls.
func ClientTelemetry(t *telemetry.Telemetry) grpc.DialOption {
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(instrumentation(t)...))
}

// InMemory returns a listener inside the process, for WithListener, and the option that makes Dial
// reach it, whatever its target; InMemoryTarget is a fitting one.
func InMemory() (net.Listener, grpc.DialOption) {
	l := bufconn.Listen(memoryBuffer)
	return l, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
}

// clientUnary carries the request's id on and gives errors their kind back.
func clientUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fault.FromStatus(invoke(outgoing(ctx), method, req, reply, cc, opts...))
}

// clientStream carries the request's id on and gives errors their kind back.
func clientStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	cs, err := open(outgoing(ctx), desc, cc, method, opts...)
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	return &stream{ClientStream: cs}, nil
}

// stream is a client's stream whose errors have their kinds.
type stream struct {
	grpc.ClientStream
}

// Header returns the header, or the server's error.
func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, fault.FromStatus(err)
}

// SendMsg sends a message. io.EOF means that the stream is broken and that RecvMsg has the reason.
func (s *stream) SendMsg(m any) error { return convert(s.ClientStream.SendMsg(m)) }

// RecvMsg receives a message, io.EOF at the stream's end, or the server's error.
func (s *stream) RecvMsg(m any) error { return convert(s.ClientStream.RecvMsg(m)) }

// convert gives an error its kind back; the end of a stream is none.
func convert(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fault.FromStatus(err)
}

// serviceConfig returns how clients spread their calls and which they repeat.
func serviceConfig() (string, error) {
	config := map[string]any{"loadBalancingConfig": []any{map[string]any{inTurn: map[string]any{}}}}
	if names := repeatable(); len(names) > 0 {
		config["methodConfig"] = []any{map[string]any{
			"name": names,
			"retryPolicy": map[string]any{
				"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2.0,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("write the service config: %w", err)
	}
	return string(text), nil
}

// method names one method in a service config.
type method struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

// repeatable returns the unary methods of our services that may be sent twice: those that say so
// themselves, and those that only read by the naming of the API (AIP-131, AIP-132).
func repeatable() []method {
	var out []method
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "postrider.") {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				if m := methods.Get(j); mayRepeat(m) {
					out = append(out, method{Service: string(m.Parent().FullName()), Method: string(m.Name())})
				}
			}
		}
		return true
	})
	slices.SortFunc(out, func(a, b method) int { return strings.Compare(a.Service+"/"+a.Method, b.Service+"/"+b.Method) })
	return out
}

// mayRepeat reports whether a method changes nothing when it is called again.
func mayRepeat(m protoreflect.MethodDescriptor) bool {
	if m.IsStreamingClient() || m.IsStreamingServer() {
		return false
	}
	opts, _ := m.Options().(*descriptorpb.MethodOptions)
	if opts.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
		return true
	}
	name := string(m.Name())
	return strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Explain")
}
