package rpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/telemetry"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scheduler is a service whose answers the test decides.
type scheduler struct {
	schedulerv1.UnimplementedSchedulerServiceServer
	list     func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error)
	schedule func(context.Context, *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error)
}

// ListRetries answers as the test says.
func (s *scheduler) ListRetries(ctx context.Context, r *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
	return s.list(ctx, r)
}

// ScheduleRetry answers as the test says.
func (s *scheduler) ScheduleRetry(ctx context.Context, r *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error) {
	return s.schedule(ctx, r)
}

// events is a service whose stream the test decides.
type events struct {
	postriderv1.UnimplementedEventServiceServer
	stream func(postriderv1.EventService_StreamEventsServer) error
}

// StreamEvents does what the test says.
func (e *events) StreamEvents(s postriderv1.EventService_StreamEventsServer) error {
	return e.stream(s)
}

// bundle is a server in memory and a client of it.
type bundle struct {
	server    *rpc.Server
	scheduler *scheduler
	events    *events
	cc        *grpc.ClientConn
	client    schedulerv1.SchedulerServiceClient
	records   *logtest.Records
}

// setup starts a server in memory.
func setup(t *testing.T, opts ...rpc.Option) *bundle {
	t.Helper()
	log, records := logtest.Recorder(t)
	l, dial := rpc.InMemory()
	s, err := rpc.NewServer(rpc.ServerConfig{}, log, append(opts, rpc.WithListener(l))...)
	require.NoError(t, err)
	b := &bundle{server: s, scheduler: &scheduler{}, events: &events{}, records: records}
	schedulerv1.RegisterSchedulerServiceServer(s.Registrar(), b.scheduler)
	postriderv1.RegisterEventServiceServer(s.Registrar(), b.events)
	start(t, s)
	b.cc = connect(t, rpc.ClientConfig{Target: rpc.InMemoryTarget}, dial)
	b.client = schedulerv1.NewSchedulerServiceClient(b.cc)
	return b
}

// start starts a server until the test ends.
func start(t *testing.T, s *rpc.Server) {
	t.Helper()
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
}

// connect dials until the test ends.
func connect(t *testing.T, cfg rpc.ClientConfig, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := rpc.Dial(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cc.Close()) })
	return cc
}

// A fault keeps its kind, reason, fields and pause on its way, unary and streaming.
func TestFaultsSurviveTheWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := fault.InvalidFields(fault.Violation{Field: "retries[0].due_time", Rule: "must be set"}).WithRetryAfter(3*time.Second).WithMetadata("k", "v")
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		return nil, want.WithCause(errors.New("kept here"))
	}
	b.events.stream = func(s postriderv1.EventService_StreamEventsServer) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		return want
	}
	check := func(err error) {
		t.Helper()
		got, ok := fault.As(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, fault.Invalid, got.Kind)
		require.Equal(t, want.Violations, got.Violations)
		require.Equal(t, 3*time.Second, got.RetryAfter)
		require.Equal(t, "v", got.Metadata["k"])
		require.NotContains(t, err.Error(), "kept here")
	}
	_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
	check(err)

	stream, err := postriderv1.NewEventServiceClient(b.cc).StreamEvents(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&postriderv1.StreamEventsRequest{Tag: 1}))
	_, err = stream.Recv()
	check(err)
	require.Empty(t, b.records.Find("a call failed"), "a fault is the caller's business")
}

// An error without a kind crosses with a fixed text; its own stays in the log, with the request's id.
func TestInternalErrorsStayHere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		return nil, errors.New("disk /dev/sda is on fire")
	}
	var trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "mine-1")
	_, err := b.client.ListRetries(ctx, &schedulerv1.ListRetriesRequest{}, grpc.Trailer(&trailer))
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, err.Error(), "sda")
	require.Equal(t, []string{"mine-1"}, trailer.Get("x-request-id"))

	logged := b.records.Find("a call failed")
	require.Len(t, logged, 1)
	require.Equal(t, slog.LevelError, logged[0].Level)
	require.Equal(t, "mine-1", logged[0].Attrs["request_id"].String())
	require.Contains(t, logged[0].Attrs["error"].String(), "sda")
}

// A panic ends the call, not the process, and its stack is logged once.
func TestPanicsAreInternalErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		panic("boom at 0xdead")
	}
	b.events.stream = func(postriderv1.EventService_StreamEventsServer) error { panic("boom at 0xdead") }
	_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, err.Error(), "boom")
	stream, err := postriderv1.NewEventServiceClient(b.cc).StreamEvents(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Internal, status.Code(err))

	logged := b.records.Find("a handler panicked")
	require.Len(t, logged, 2)
	require.Equal(t, "boom at 0xdead", logged[0].Attrs["panic"].String())
	require.Contains(t, logged[0].Attrs["stack"].String(), "TestPanicsAreInternalErrors")
	require.Empty(t, b.records.Find("a call failed"))
}

// Calls are logged at debug only; a call that goes well costs no line above it.
func TestAccessLogIsDebug(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		return &schedulerv1.ListRetriesResponse{}, nil
	}
	_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
	require.NoError(t, err)
	for _, record := range b.records.All() {
		require.Equal(t, slog.LevelDebug, record.Level, record.Message)
	}
	calls := b.records.Find("call")
	require.Len(t, calls, 1)
	require.Equal(t, "OK", calls[0].Attrs["code"].String())
	require.Equal(t, "/postrider.scheduler.v1.SchedulerService/ListRetries", calls[0].Attrs["method"].String())
}

// Interceptors of the service run inside the server's own: their errors keep their kind, and a
// panic in them is caught.
func TestInterceptorsOfTheService(t *testing.T) {
	t.Parallel()
	denied := fault.New(fault.Denied, "NO_SCOPE", "the key lacks the scope")
	b := setup(t,
		rpc.WithUnary(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, denied }),
		rpc.WithStream(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { panic("boom") }))
	_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
	require.ErrorIs(t, err, denied)
	stream, err := postriderv1.NewEventServiceClient(b.cc).StreamEvents(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Internal, status.Code(err))
}

// The id of a request is the caller's, if it can be logged, and goes on to the services behind.
func TestRequestIDGoesOn(t *testing.T) {
	t.Parallel()
	back := setup(t)
	front := setup(t)
	seen := make(chan string, 2)
	back.scheduler.list = func(ctx context.Context, _ *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		seen <- rpc.RequestID(ctx)
		return &schedulerv1.ListRetriesResponse{}, nil
	}
	front.scheduler.list = func(ctx context.Context, r *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		seen <- rpc.RequestID(ctx)
		return back.client.ListRetries(ctx, r)
	}
	for name, sent := range map[string]string{
		"kept": "abc-123", "made": "", "too long": strings.Repeat("x", 129), "not to be logged": "a b",
	} {
		ctx := t.Context()
		if sent != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", sent)
		}
		_, err := front.client.ListRetries(ctx, &schedulerv1.ListRetriesRequest{})
		require.NoError(t, err, name)
		first, second := <-seen, <-seen
		require.Equal(t, first, second, name)
		require.NotEmpty(t, first, name)
		require.Equal(t, name == "kept", first == sent, name)
	}
	require.Empty(t, rpc.RequestID(t.Context()))
	require.Equal(t, "abc", rpc.RequestID(rpc.ContextWithRequestID(t.Context(), "abc")))
}

// Streams carry messages both ways and end with io.EOF.
func TestStreamsCarryMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.events.stream = func(s postriderv1.EventService_StreamEventsServer) error {
		for {
			req, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.Send(&postriderv1.StreamEventsResponse{Tag: req.GetTag()}); err != nil {
				return err
			}
		}
	}
	stream, err := postriderv1.NewEventServiceClient(b.cc).StreamEvents(t.Context())
	require.NoError(t, err)
	for tag := range uint64(3) {
		require.NoError(t, stream.Send(&postriderv1.StreamEventsRequest{Tag: tag}))
		resp, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, tag, resp.GetTag())
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	_, err = stream.Header()
	require.NoError(t, err)
}

// What only reads is tried again while the server is unavailable; what changes something is not.
func TestOnlyReadsAreRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	calls := 0
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		if calls++; calls < 3 {
			return nil, fault.New(fault.Unavailable, "REBUILDING", "not yet")
		}
		return &schedulerv1.ListRetriesResponse{NextPageToken: "done"}, nil
	}
	resp, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
	require.NoError(t, err)
	require.Equal(t, "done", resp.GetNextPageToken())
	require.Equal(t, 3, calls)

	changes := 0
	b.scheduler.schedule = func(context.Context, *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error) {
		changes++
		return nil, fault.New(fault.Unavailable, "REBUILDING", "not yet")
	}
	_, err = b.client.ScheduleRetry(t.Context(), &schedulerv1.ScheduleRetryRequest{})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.Unavailable, kind)
	require.Equal(t, 1, changes)
}

// A message above the limit is refused as a fault, not a broken connection.
func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.scheduler.list = func(_ context.Context, r *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		return &schedulerv1.ListRetriesResponse{NextPageToken: r.GetPageToken()}, nil
	}
	_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{PageToken: strings.Repeat("x", rpc.MaxMessageSize+1)})
	kind, ok := fault.KindOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, fault.Exhausted, kind)
	big := strings.Repeat("x", rpc.MaxMessageSize/2)
	resp, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{PageToken: big})
	require.NoError(t, err)
	require.Len(t, resp.GetNextPageToken(), len(big))
}

// Health and reflection are there without anybody asking for them.
func TestHealthAndReflection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	health := healthv1.NewHealthClient(b.cc)
	resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, resp.GetStatus())
	b.server.Drain(t.Context())
	resp, err = health.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, resp.GetStatus())

	reflection, err := reflectionv1.NewServerReflectionClient(b.cc).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, reflection.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	list, err := reflection.Recv()
	require.NoError(t, err)
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	require.Contains(t, names, "postrider.scheduler.v1.SchedulerService")
	require.Contains(t, names, "grpc.health.v1.Health")
	require.NoError(t, reflection.CloseSend())
	_, err = reflection.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// A server listens on its address and in memory at once, and calls are counted.
func TestTCPAndMemoryTogether(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Default(), "test")
	require.NoError(t, err)
	l, dial := rpc.InMemory()
	s, err := rpc.NewServer(rpc.ServerConfig{Listen: "127.0.0.1:0"}, logtest.New(t), rpc.WithListener(l), rpc.WithTelemetry(tel), rpc.WithName("public"))
	require.NoError(t, err)
	require.Equal(t, "public", s.Name())
	schedulerv1.RegisterSchedulerServiceServer(s.Registrar(), &scheduler{list: func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		return &schedulerv1.ListRetriesResponse{}, nil
	}})
	start(t, s)
	require.IsType(t, &net.TCPAddr{}, s.Addr())
	for _, cc := range []*grpc.ClientConn{
		connect(t, rpc.ClientConfig{Target: s.Addr().String()}, rpc.ClientTelemetry(tel)),
		connect(t, rpc.ClientConfig{Target: rpc.InMemoryTarget}, dial, rpc.ClientTelemetry(tel)),
	} {
		_, err := schedulerv1.NewSchedulerServiceClient(cc).ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
		require.NoError(t, err)
	}
	require.NoError(t, tel.Shutdown(t.Context()))
}

// Stop lets calls end.
func TestStopWaitsForCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handling, release := make(chan struct{}), make(chan struct{})
	b.scheduler.list = func(context.Context, *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		close(handling)
		<-release
		return &schedulerv1.ListRetriesResponse{}, nil
	}
	called := make(chan error, 1)
	go func() {
		_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
		called <- err
	}()
	<-handling
	stopped := make(chan error, 1)
	go func() { stopped <- b.server.Stop(t.Context()) }()
	close(release)
	require.NoError(t, <-called)
	require.NoError(t, <-stopped)
}

// Stop cancels calls that do not end within its context, and waits for their handlers.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handling, handled := make(chan struct{}), make(chan struct{})
	b.scheduler.list = func(ctx context.Context, _ *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
		close(handling)
		<-ctx.Done()
		close(handled)
		return nil, ctx.Err()
	}
	called := make(chan error, 1)
	go func() {
		_, err := b.client.ListRetries(t.Context(), &schedulerv1.ListRetriesRequest{})
		called <- err
	}()
	<-handling
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, b.server.Stop(ctx), "calls were still running")
	<-handled
	require.Error(t, <-called)
	require.NoError(t, b.server.Stop(t.Context()), "stopping twice is a no-op")
}

// A server is started once, and not after it was stopped.
func TestStartOnce(t *testing.T) {
	t.Parallel()
	l, _ := rpc.InMemory()
	s, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(l))
	require.NoError(t, err)
	require.NoError(t, s.Stop(t.Context()), "stopping before starting is a no-op")
	require.Error(t, s.Start(t.Context()))
	b := setup(t)
	require.Error(t, b.server.Start(t.Context()))

	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	s, err = rpc.NewServer(rpc.ServerConfig{Listen: taken.Addr().String()}, logtest.New(t))
	require.NoError(t, err)
	require.ErrorContains(t, s.Start(t.Context()), "address already in use")
	require.NoError(t, s.Stop(t.Context()))
}

// An unknown method and a server that is away are faults of their kinds.
func TestErrorsOfTheTransportHaveKinds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.client.Hold(t.Context(), &schedulerv1.HoldRequest{})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.Unimplemented, kind)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.client.Hold(ctx, &schedulerv1.HoldRequest{})
	kind, _ = fault.KindOf(err)
	require.Equal(t, fault.Canceled, kind)

	away := schedulerv1.NewSchedulerServiceClient(connect(t, rpc.ClientConfig{Target: "127.0.0.1:1"}))
	_, err = away.Hold(t.Context(), &schedulerv1.HoldRequest{})
	kind, _ = fault.KindOf(err)
	require.Equal(t, fault.Unavailable, kind)
	_, err = postriderv1.NewEventServiceClient(connect(t, rpc.ClientConfig{Target: "127.0.0.1:1"})).StreamEvents(t.Context())
	kind, _ = fault.KindOf(err)
	require.Equal(t, fault.Unavailable, kind)
}
