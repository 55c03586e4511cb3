package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// How events are published.
const (
	unary     = "unary"
	batched   = "batch"
	streaming = "stream"
)

// Load is how producers publish: closed loops of Producers, each of which publishes again when it
// was answered. A producer's publish is one event, Size events in one call, or, on a stream, one
// of Size events that wait for their receipts at a time.
type Load struct {
	Method    string `json:"method"`
	Producers int    `json:"producers"`
	Size      int    `json:"size"`
}

func (l Load) String() string {
	switch l.Method {
	case batched:
		return fmt.Sprintf("%d producers x batch of %d", l.Producers, l.Size)
	case streaming:
		return fmt.Sprintf("%d streams x %d in flight", l.Producers, l.Size)
	}
	return fmt.Sprintf("%d producers", l.Producers)
}

// publication is an accepted event.
type publication struct {
	event ulid.ULID
	acked int64 // unix nanoseconds
}

// published is what a load was answered.
type published struct {
	events []publication
	acks   []time.Duration // from the call to its answer
	first  time.Time
	took   time.Duration
	// degraded is how many events Redis did not vouch for in time.
	degraded int
}

// collect puts the tapes of all producers together.
func (p *published) collect(tapes []tape) {
	for i := range tapes {
		p.events = append(p.events, tapes[i].events...)
		p.acks = append(p.acks, tapes[i].acks...)
		p.degraded += tapes[i].degraded
	}
}

// producer publishes for one account.
type producer struct {
	conns []*grpc.ClientConn
	key   string
	types []string
	body  []byte
	run   string // makes idempotency keys unique
	next  atomic.Int64
	calls atomic.Int64

	account  string
	webhooks []string // their ids, in the order of their numbers
	keys     []string // of other accounts, in place of key: batches are for each of them in turn
}

// connections is how many gRPC connections the producers share.
const connections = 4

func newProducer(target, key string, types []string) (*producer, error) {
	p := &producer{key: key, types: types, body: payload(), run: ulid.Make().String() + "-"}
	for range connections {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.conns = append(p.conns, conn)
	}
	return p, nil
}

func (p *producer) close() (err error) {
	for _, c := range p.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (p *producer) client(i int) postriderv1.EventServiceClient {
	return postriderv1.NewEventServiceClient(p.conns[i%len(p.conns)])
}

func (p *producer) authorized(ctx context.Context) context.Context {
	if len(p.keys) > 0 {
		return ctx // each call says for which account it is
	}
	return bearer(ctx, p.key)
}

func bearer(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// turn is ctx for the account whose turn it is.
func (p *producer) turn(ctx context.Context) context.Context {
	if len(p.keys) == 0 {
		return ctx
	}
	return bearer(ctx, p.keys[int(p.calls.Add(1))%len(p.keys)])
}

// request is a new event with an idempotency key of its own, so that Redis has to vouch for it.
func (p *producer) request() *postriderv1.PublishEventRequest {
	n := p.next.Add(1)
	return &postriderv1.PublishEventRequest{
		Event:          &postriderv1.EventInput{Type: p.types[int(n)%len(p.types)], Data: p.body},
		IdempotencyKey: p.run + strconv.FormatInt(n, 10),
	}
}

// load publishes for the time, then waits for what is under way. Any error fails it.
func (p *producer) load(ctx context.Context, l Load, d time.Duration) (*published, error) {
	publish := map[string]func(context.Context, int, int, *tape, <-chan struct{}) error{
		unary: p.unary, batched: p.batch, streaming: p.stream,
	}[l.Method]
	if publish == nil {
		return nil, fmt.Errorf("there is no way %q to publish", l.Method)
	}
	ctx, cancel := context.WithCancel(p.authorized(ctx))
	defer cancel()
	over := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	tapes := make([]tape, l.Producers)
	var first firstError
	var producers sync.WaitGroup
	began := time.Now()
	for i := range l.Producers {
		producers.Go(func() {
			if err := publish(ctx, i, l.Size, &tapes[i], over); err != nil {
				first.set(err)
				cancel()
			}
		})
	}
	producers.Wait()
	if err := first.get(); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	out := &published{first: began, took: time.Since(began)}
	out.collect(tapes)
	return out, nil
}

// tape is what one producer was answered.
type tape struct {
	events   []publication
	acks     []time.Duration
	degraded int
	wait     time.Duration // that refusals asked for since the last pause
}

func (t *tape) receipt(r *postriderv1.Receipt, at time.Time) error {
	id, err := eventID(r.GetEventId())
	if err != nil {
		return err
	}
	if r.GetDuplicate() {
		return fmt.Errorf("event %s was called a duplicate", r.GetEventId())
	}
	if r.GetDedupWindow() != postriderv1.DedupWindow_DEDUP_WINDOW_FULL {
		t.degraded++
	}
	t.events = append(t.events, publication{event: id, acked: at.UnixNano()})
	return nil
}

func (t *tape) verdict(v *postriderv1.PublishVerdict, at time.Time) error {
	if e := v.GetError(); e != nil && codes.Code(e.GetCode()) == codes.ResourceExhausted {
		// Backpressure is no error: a producer waits and goes on.
		t.wait = max(t.wait, e.GetRetryDelay().AsDuration())
		return nil
	} else if e != nil {
		return fmt.Errorf("an event was refused: %s: %s", e.GetReason(), e.GetMessage())
	}
	return t.receipt(v.GetReceipt(), at)
}

// pauseUnary is how long a producer of single events waits that was refused for its share.
const pauseUnary = 100 * time.Millisecond

// pause waits as long as refusals asked for, or until the load is over.
func (t *tape) pause(over <-chan struct{}) {
	if t.wait == 0 {
		return
	}
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	t.wait = 0
	select {
	case <-timer.C:
	case <-over:
	}
}

func ended(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	default:
		return false
	}
}

func (p *producer) unary(ctx context.Context, i, _ int, t *tape, over <-chan struct{}) error {
	client := p.client(i)
	for !ended(over) {
		began := time.Now()
		resp, err := client.PublishEvent(ctx, p.request())
		if status.Code(err) == codes.ResourceExhausted {
			t.wait = pauseUnary
			t.pause(over)
			continue
		}
		if err != nil {
			return err
		}
		now := time.Now()
		t.acks = append(t.acks, now.Sub(began))
		if err := t.receipt(resp.GetReceipt(), now); err != nil {
			return err
		}
	}
	return nil
}

func (p *producer) batch(ctx context.Context, i, size int, t *tape, over <-chan struct{}) error {
	client := p.client(i)
	for !ended(over) {
		req := &postriderv1.BatchPublishEventsRequest{Requests: make([]*postriderv1.PublishEventRequest, size)}
		for n := range req.GetRequests() {
			req.Requests[n] = p.request()
		}
		began := time.Now()
		resp, err := client.BatchPublishEvents(p.turn(ctx), req)
		if err != nil {
			return err
		}
		now := time.Now()
		t.acks = append(t.acks, now.Sub(began))
		if len(resp.GetVerdicts()) != size {
			return fmt.Errorf("%d events were given %d verdicts", size, len(resp.GetVerdicts()))
		}
		for _, v := range resp.GetVerdicts() {
			if err := t.verdict(v, now); err != nil {
				return err
			}
		}
		t.pause(over)
	}
	return nil
}

// stream keeps up to size events without a receipt on one stream.
func (p *producer) stream(ctx context.Context, i, size int, t *tape, over <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.client(i).StreamEvents(ctx)
	if err != nil {
		return err
	}
	// A tag is a slot of the window: it is used again once its receipt is there.
	free := make(chan uint64, size)
	sent := make([]atomic.Int64, size)
	for tag := range uint64(size) {
		free <- tag
	}
	received := make(chan error, 1)
	go func() {
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				received <- nil
				return
			}
			now := time.Now()
			if err == nil {
				err = t.verdict(resp.GetVerdict(), now)
			}
			if err != nil {
				received <- err
				cancel()
				return
			}
			t.acks = append(t.acks, time.Duration(now.UnixNano()-sent[resp.GetTag()].Load()))
			t.pause(over) // its slots stay taken
			free <- resp.GetTag()
		}
	}()
	for !ended(over) {
		select {
		case tag := <-free:
			sent[tag].Store(time.Now().UnixNano())
			if err := stream.Send(&postriderv1.StreamEventsRequest{Tag: tag, Request: p.request()}); err != nil {
				return errors.Join(err, <-received)
			}
		case <-ctx.Done():
			return <-received
		}
	}
	return errors.Join(stream.CloseSend(), <-received)
}

// openLoop publishes one event every interval, whether or not earlier ones were answered, and makes up
// for what a busy machine kept it from.
func (p *producer) openLoop(ctx context.Context, interval, d time.Duration) (*published, error) {
	ctx, cancel := context.WithCancel(p.authorized(ctx))
	defer cancel()
	tapes := make([]tape, int(d/interval))
	var first firstError
	var calls sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	out := &published{first: time.Now()}
	for i := range tapes {
		if wait := time.Until(out.first.Add(time.Duration(i) * interval)); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		calls.Go(func() { // bounded: by d
			began := time.Now()
			resp, err := p.client(i).PublishEvent(ctx, p.request())
			now := time.Now()
			if err == nil {
				err = tapes[i].receipt(resp.GetReceipt(), now)
			}
			if err != nil {
				first.set(err)
				return
			}
			tapes[i].acks = append(tapes[i].acks, now.Sub(began))
		})
	}
	calls.Wait()
	if err := first.get(); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	out.took = time.Since(out.first)
	out.collect(tapes)
	return out, nil
}
