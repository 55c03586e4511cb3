package grpcapi

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest/internal/admission"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	acc      = postrider.AccountID("acc_01J00000000000000000000000")
	oth      = postrider.AccountID("acc_01J00000000000000000000001")
	event1   = "evt_01J00000000000000000000000"
	adminKey = "the-admins-key"
	soon     = 30 * time.Second
	tick     = time.Millisecond
	window   = 3
)

// ledger takes every event of a type other than "refused" and shows what it took. What is
// submitted waits for hold to be closed, if there is one.
type ledger struct {
	work sync.WaitGroup

	mu    sync.Mutex
	took  []*admission.Request
	hold  chan struct{}
	open  int // submitted and not answered
	peak  int
	total int
}

func (l *ledger) Accept(_ context.Context, req *admission.Request) (*postriderv1.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if req.Event.GetType() == "refused" {
		return nil, fault.InvalidFields(fault.Violation{Field: req.FieldPrefix + "type", Rule: "must be another"})
	}
	l.took = append(l.took, req)
	return &postriderv1.Receipt{EventId: event1, Sequence: uint64(len(l.took))}, nil
}

func (l *ledger) AcceptAll(ctx context.Context, reqs []*admission.Request) []admission.Verdict {
	verdicts := make([]admission.Verdict, len(reqs))
	for i, r := range reqs {
		verdicts[i].Receipt, verdicts[i].Err = l.Accept(ctx, r)
	}
	return verdicts
}

func (l *ledger) Submit(ctx context.Context, req *admission.Request, done func(admission.Verdict)) {
	l.mu.Lock()
	hold := l.hold
	l.open++
	l.total++
	l.peak = max(l.peak, l.open)
	l.mu.Unlock()
	l.work.Go(func() {
		if hold != nil {
			<-hold
		}
		receipt, err := l.Accept(ctx, req)
		l.mu.Lock()
		l.open--
		l.mu.Unlock()
		done(admission.Verdict{Receipt: receipt, Err: err})
	})
}

func (l *ledger) Read(_ context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*postriderv1.Event, error) {
	if account != acc {
		return nil, fault.New(fault.NotFound, admission.ReasonEventNotFound, "there is no such event")
	}
	return &postriderv1.Event{Id: string(id), AccountId: string(account), Sequence: sequence}, nil
}

func (l *ledger) counts() (total, peak int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, l.peak
}

// bundle is the service over an in-memory connection, with keys of every kind.
type bundle struct {
	client postriderv1.EventServiceClient
	ledger *ledger
	// Contexts with credentials.
	publish, read, admin context.Context //nolint:containedctx // each is a caller
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{ledger: &ledger{}}
	auth := access.NewAuthenticator(adminKey)
	as := func(key string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	}
	key := func(scope postrider.Scope) context.Context {
		id, secret := access.NewKeySecret()
		auth.PutKey(&recordv1.Key{
			Key: &postriderv1.ApiKey{Id: id, AccountId: string(acc), Scopes: []string{string(scope)}}, Hash: access.HashKey(secret),
		})
		return as(secret)
	}
	b.publish, b.read, b.admin = key(postrider.ScopePublish), key(postrider.ScopeRead), as(adminKey)

	svc, err := New(b.ledger, window)
	require.NoError(t, err)
	listener, option := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(listener),
		rpc.WithUnary(access.Unary(auth, Rules())), rpc.WithStream(access.Stream(auth, Rules())))
	require.NoError(t, err)
	svc.Register(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, option)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
		b.ledger.work.Wait()
	})
	b.client = postriderv1.NewEventServiceClient(conn)
	return b
}

func publishOf(eventType string) *postriderv1.PublishEventRequest {
	return &postriderv1.PublishEventRequest{
		Event: &postriderv1.EventInput{Type: eventType, Data: []byte("1")}, IdempotencyKey: "k",
	}
}

func isFault(t *testing.T, err error, kind fault.Kind, reason string) fault.Error {
	t.Helper()
	e, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind.String(), e.Kind.String())
	require.Equal(t, reason, e.Reason)
	return *e
}

func TestPublishEvent(t *testing.T) {
	t.Parallel()
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b := setup(t)
	res, err := b.client.PublishEvent(metadata.AppendToOutgoingContext(b.publish, "traceparent", trace), publishOf("a"))
	require.NoError(t, err)
	require.Equal(t, event1, res.GetReceipt().GetEventId())
	got := b.ledger.took[0]
	require.Equal(t, acc, got.Account)
	require.Equal(t, "k", got.IdempotencyKey)
	require.Equal(t, trace, got.Traceparent)
	require.Equal(t, "a", got.Event.GetType())

	_, err = b.client.PublishEvent(b.publish, publishOf("refused"))
	e := isFault(t, err, fault.Invalid, "INVALID_ARGUMENT")
	require.Equal(t, []fault.Violation{{Field: "event.type", Rule: "must be another"}}, e.Violations)
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.client.PublishEvent(t.Context(), publishOf("a"))
	isFault(t, err, fault.Unauthenticated, access.ReasonKeyMissing)
	_, err = b.client.PublishEvent(b.read, publishOf("a"))
	isFault(t, err, fault.Denied, access.ReasonScopeMissing)
	_, err = b.client.GetEvent(b.publish, &postriderv1.GetEventRequest{EventId: event1})
	isFault(t, err, fault.Denied, access.ReasonScopeMissing)
	stream, err := b.client.StreamEvents(b.read)
	require.NoError(t, err)
	_, err = stream.Recv()
	isFault(t, err, fault.Denied, access.ReasonScopeMissing)
	_, err = b.client.BatchPublishEvents(b.read, &postriderv1.BatchPublishEventsRequest{})
	isFault(t, err, fault.Denied, access.ReasonScopeMissing)

	foreign := publishOf("a")
	foreign.AccountId = string(oth)
	_, err = b.client.PublishEvent(b.publish, foreign)
	isFault(t, err, fault.NotFound, access.ReasonAccountNotFound)
	_, err = b.client.PublishEvent(b.admin, publishOf("a"))
	isFault(t, err, fault.Invalid, "INVALID_ARGUMENT")
	require.Empty(t, b.ledger.took)
	_, err = b.client.PublishEvent(b.admin, foreign)
	require.NoError(t, err)
	require.Equal(t, oth, b.ledger.took[0].Account)
}

func TestBatchPublishEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	foreign := publishOf("a")
	foreign.AccountId = string(oth)
	res, err := b.client.BatchPublishEvents(b.publish, &postriderv1.BatchPublishEventsRequest{Requests: []*postriderv1.PublishEventRequest{
		publishOf("a"), foreign, publishOf("refused"), publishOf("b"),
	}})
	require.NoError(t, err)
	v := res.GetVerdicts()
	require.Len(t, v, 4)
	require.Equal(t, uint64(1), v[0].GetReceipt().GetSequence())
	require.Equal(t, int32(codes.NotFound), v[1].GetError().GetCode())
	require.Equal(t, access.ReasonAccountNotFound, v[1].GetError().GetReason())
	require.Equal(t, int32(codes.InvalidArgument), v[2].GetError().GetCode())
	require.Equal(t, "event.type", v[2].GetError().GetFieldViolations()[0].GetField())
	require.NotEmpty(t, v[2].GetError().GetMessage())
	require.Equal(t, uint64(2), v[3].GetReceipt().GetSequence())

	_, err = b.client.BatchPublishEvents(b.admin, &postriderv1.BatchPublishEventsRequest{
		AccountId: string(acc), Requests: []*postriderv1.PublishEventRequest{publishOf("a"), foreign},
	})
	require.NoError(t, err)
	require.Equal(t, acc, b.ledger.took[2].Account, "the batch's account, if the request names none")
	require.Equal(t, oth, b.ledger.took[3].Account)
}

func TestBatchesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.client.BatchPublishEvents(b.publish, &postriderv1.BatchPublishEventsRequest{Requests: make([]*postriderv1.PublishEventRequest, MaxBatch+1)})
	require.Equal(t, "requests", isFault(t, err, fault.Invalid, "INVALID_ARGUMENT").Violations[0].Field)
	large := publishOf("a")
	large.Event.Data = []byte(strings.Repeat("x", MaxBatchBytes))
	_, err = b.client.BatchPublishEvents(b.publish, &postriderv1.BatchPublishEventsRequest{Requests: []*postriderv1.PublishEventRequest{large}})
	require.Equal(t, "requests", isFault(t, err, fault.Invalid, "INVALID_ARGUMENT").Violations[0].Field)
	require.Empty(t, b.ledger.took)
}

func TestStreamEventsAnswersEachByItsTag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stream, err := b.client.StreamEvents(b.publish)
	require.NoError(t, err)
	foreign := publishOf("a")
	foreign.AccountId = string(oth)
	for tag, req := range []*postriderv1.PublishEventRequest{publishOf("a"), publishOf("refused"), foreign, nil} {
		require.NoError(t, stream.Send(&postriderv1.StreamEventsRequest{Tag: uint64(tag), Request: req}))
	}
	require.NoError(t, stream.CloseSend())
	got := map[uint64]*postriderv1.PublishVerdict{}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got[res.GetTag()] = res.GetVerdict()
	}
	require.Len(t, got, 4)
	require.NotNil(t, got[0].GetReceipt())
	require.Equal(t, "INVALID_ARGUMENT", got[1].GetError().GetReason())
	require.Equal(t, access.ReasonAccountNotFound, got[2].GetError().GetReason())
	require.NotNil(t, got[3].GetReceipt(), "what no event means is admission's matter")
}

func TestStreamEventsReadsNoMoreThanItsWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := make(chan struct{})
	b.ledger.hold = hold
	stream, err := b.client.StreamEvents(b.publish)
	require.NoError(t, err)
	const all = 500
	sent := make(chan error, 1)
	go func() {
		for tag := range uint64(all) {
			if err := stream.Send(&postriderv1.StreamEventsRequest{Tag: tag, Request: publishOf("t" + strconv.FormatUint(tag, 10))}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	require.Eventually(t, func() bool { total, _ := b.ledger.counts(); return total == window }, soon, tick)
	close(hold)
	tags := map[uint64]bool{}
	for range all {
		res, err := stream.Recv()
		require.NoError(t, err)
		tags[res.GetTag()] = true
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, <-sent)
	require.Len(t, tags, all)
	_, peak := b.ledger.counts()
	require.LessOrEqual(t, peak, window)
}

func TestAStreamWhoseProducerLeavesEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := make(chan struct{})
	b.ledger.hold = hold
	ctx, cancel := context.WithCancel(b.publish)
	stream, err := b.client.StreamEvents(ctx)
	require.NoError(t, err)
	for range window {
		require.NoError(t, stream.Send(&postriderv1.StreamEventsRequest{Request: publishOf("a")}))
	}
	require.Eventually(t, func() bool { total, _ := b.ledger.counts(); return total == window }, soon, tick)
	cancel()
	_, err = stream.Recv()
	require.Error(t, err)
	close(hold) // the answers have nowhere to go and block nobody; the cleanup waits for all of it
}

func TestGetEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	res, err := b.client.GetEvent(b.read, &postriderv1.GetEventRequest{EventId: event1, Sequence: 7})
	require.NoError(t, err)
	require.Equal(t, event1, res.GetEvent().GetId())
	require.Equal(t, uint64(7), res.GetEvent().GetSequence())
	_, err = b.client.GetEvent(b.read, &postriderv1.GetEventRequest{EventId: "evt_1"})
	require.Equal(t, "event_id", isFault(t, err, fault.Invalid, "INVALID_ARGUMENT").Violations[0].Field)
	_, err = b.client.GetEvent(b.read, &postriderv1.GetEventRequest{EventId: event1, AccountId: string(oth)})
	isFault(t, err, fault.NotFound, access.ReasonAccountNotFound)
	_, err = b.client.GetEvent(b.admin, &postriderv1.GetEventRequest{EventId: event1, AccountId: string(oth)})
	isFault(t, err, fault.NotFound, admission.ReasonEventNotFound)
}

func TestAServiceThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	_, err := New(nil, 1)
	require.Error(t, err)
	_, err = New(&ledger{}, 0)
	require.Error(t, err)
	s, err := New(&ledger{}, 1)
	require.NoError(t, err)
	_, err = s.PublishEvent(t.Context(), publishOf("a"))
	isFault(t, err, fault.Unauthenticated, access.ReasonKeyMissing) // without interceptors nothing is open
	_, err = s.BatchPublishEvents(t.Context(), nil)
	isFault(t, err, fault.Unauthenticated, access.ReasonKeyMissing)
	_, err = s.GetEvent(t.Context(), nil)
	isFault(t, err, fault.Unauthenticated, access.ReasonKeyMissing)
}
