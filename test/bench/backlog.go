package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// backlog is retries that wait in a running system of separate processes. What is real: the records are
// handed to the scheduler over gRPC in batches, as dispatchers hand them over while a big receiver is
// away, of webhooks that exist; each is stored in RETRIES and then indexed in Redis before the answer, and
// holds a payload as those of events do. What is shortened: no first attempt was made, so that a million
// need not be refused one by one.
type backlog struct {
	b         *bench
	s         *system
	p         *producer // of the webhooks
	conn      *grpc.ClientConn
	scheduler schedulerv1.SchedulerServiceClient
	redis     *redis.Client
	waiting   int     // that are due much later
	perSecond float64 // that were handed over last
}

// Of handing over.
const (
	backlogHooks   = 64
	handOverBatch  = 256 // the most that a call may bring
	handOverCalls  = 8   // at a time
	muchLater      = 12 * time.Hour
	failureOfFirst = "http_status"
	redisPatience  = time.Minute // a server that frees ten million members answers nobody meanwhile
)

func (b *bench) backlog(ctx context.Context, s *system) (*backlog, error) {
	p, err := s.tenant(ctx, b.receiver.url, backlogHooks, 1)
	if err != nil {
		return nil, err
	}
	w := &backlog{b: b, s: s, p: p}
	if w.conn, err = rpc.Dial(rpc.ClientConfig{Target: s.cluster.GRPCTarget(s.cluster.Of("scheduler")[0])}); err != nil {
		return nil, errors.Join(err, p.close())
	}
	w.scheduler = schedulerv1.NewSchedulerServiceClient(w.conn)
	options, err := redis.ParseURL(s.cluster.RedisURL)
	if err != nil {
		return nil, errors.Join(err, w.conn.Close(), p.close())
	}
	options.ReadTimeout = redisPatience
	w.redis = redis.NewClient(options)
	return w, nil
}

func (w *backlog) close() error {
	return errors.Join(w.redis.Close(), w.conn.Close(), w.p.close())
}

// retry is a delivery that failed once, with a 503.
func (w *backlog) retry(n int, due time.Time) *recordv1.Retry {
	hook := w.p.webhooks[n%len(w.p.webhooks)]
	event, now := postrider.NewEventID(), timestamppb.Now()
	return &recordv1.Retry{
		Delivery: &recordv1.Delivery{
			Id:        string(postrider.DeliveryIDFor(event, postrider.WebhookID(hook), "")),
			AccountId: w.p.account, WebhookId: hook, EventId: string(event), EventSequence: uint64(n + 1),
			EventType: w.p.types[n%len(w.p.types)], EventTime: now, AcceptTime: now, RouteTime: now, ContentType: "application/json", Data: w.p.body,
			Progress: &recordv1.Progress{Attempts: 1, FirstAttemptTime: now, LastAttemptTime: now, LastStatusCode: 503, LastErrorClass: failureOfFirst},
		},
		Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(due), Reason: failureOfFirst,
	}
}

// handOver gives the scheduler n retries that are due at a time.
func (w *backlog) handOver(ctx context.Context, n int, due time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	var first firstError
	var callers sync.WaitGroup
	began := time.Now()
	for range handOverCalls {
		callers.Go(func() {
			for {
				from := int(next.Add(handOverBatch)) - handOverBatch
				if from >= n || ctx.Err() != nil {
					return
				}
				if err := w.call(ctx, from, min(handOverBatch, n-from), due); err != nil {
					first.set(err)
					cancel()
					return
				}
			}
		})
	}
	callers.Wait()
	w.perSecond = float64(n) / time.Since(began).Seconds()
	return first.get()
}

func (w *backlog) call(ctx context.Context, from, n int, due time.Time) error {
	req := &schedulerv1.ScheduleRetryRequest{Retries: make([]*recordv1.Retry, n)}
	for i := range req.GetRetries() {
		req.Retries[i] = w.retry(from+i, due)
	}
	resp, err := w.scheduler.ScheduleRetry(ctx, req)
	if err != nil {
		return fmt.Errorf("hand retries over: %w", err)
	}
	for _, r := range resp.GetResults() {
		if r.GetStatus() != schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED {
			return fmt.Errorf("hand a retry over: %s: %s", r.GetStatus(), r.GetError())
		}
	}
	return nil
}

// wait adds to what waits, until there are so many.
func (w *backlog) wait(ctx context.Context, upTo int) error {
	if upTo <= w.waiting {
		return nil
	}
	if err := w.handOver(ctx, upTo-w.waiting, time.Now().Add(muchLater)); err != nil {
		return err
	}
	w.waiting = upTo
	w.b.say("%-20s %s wait, handed over at %s/s", "retries", count(float64(upTo)), count(w.perSecond))
	return nil
}

// footprint is what the stores and the scheduler use.
type footprint struct {
	redis, nats, scheduler int64 // bytes: used_memory, and resident memory of the others
}

// footprint waits until nothing is being done.
func (w *backlog) footprint(ctx context.Context) (f footprint, err error) {
	if _, err := w.s.procs.awaitQuiet(ctx); err != nil {
		w.b.say("%-20s memory is read while something goes on: %s", groupRetries, err)
	}
	if f.redis, err = usedMemory(ctx, w.redis); err != nil {
		return f, err
	}
	resident, err := w.s.procs.memory()
	f.nats, f.scheduler = resident["nats"], resident["scheduler"]
	return f, err
}

// usedMemory is what Redis says that it uses, in bytes.
func usedMemory(ctx context.Context, client *redis.Client) (int64, error) {
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, fmt.Errorf("read the memory of Redis: %w", err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			return strconv.ParseInt(text, 10, 64)
		}
	}
	return 0, errors.New("read the memory of Redis: it does not say")
}

func (s *system) redisMemory(ctx context.Context) (n int64, err error) {
	options, err := redis.ParseURL(s.cluster.RedisURL)
	if err != nil {
		return 0, err
	}
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	return usedMemory(ctx, client)
}

// indexed is how many members the sorted sets have: the retries, and an epoch in each set.
func (w *backlog) indexed(ctx context.Context) (sum int64, err error) {
	keys, err := w.redis.Keys(ctx, "postrider:retry:*:due").Result()
	if err != nil {
		return 0, fmt.Errorf("count the index: %w", err)
	}
	for _, key := range keys {
		n, err := w.redis.ZCard(ctx, key).Result()
		if err != nil {
			return 0, fmt.Errorf("count the index: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// Metrics of the scheduler.
const (
	rebuildsMetric   = "postrider_scheduler_rebuilds_total"
	rebuildingMetric = "postrider_scheduler_rebuild_running"
)

// Times of rebuild.
const (
	rebuildStep  = 50 * time.Millisecond
	rebuildLimit = 20 * time.Minute
)

// rebuild empties Redis under the running scheduler and measures until the index is whole again.
func (w *backlog) rebuild(ctx context.Context) (time.Duration, error) {
	want, err := w.indexed(ctx)
	if err != nil {
		return 0, err
	}
	page := w.s.metrics["scheduler"]
	before, err := metric(ctx, page, rebuildsMetric)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := w.redis.FlushAllAsync(ctx).Err(); err != nil {
		return 0, fmt.Errorf("empty Redis: %w", err)
	}
	ticker := time.NewTicker(rebuildStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-ticker.C:
		}
		took := time.Since(began)
		ended, err1 := metric(ctx, page, rebuildsMetric)
		running, err2 := metric(ctx, page, rebuildingMetric)
		if err := errors.Join(err1, err2); err != nil {
			return 0, err
		}
		if ended > before && running == 0 {
			got, err := w.indexed(ctx)
			if err != nil || got >= want {
				return took, err
			}
		}
		if took > rebuildLimit {
			return 0, fmt.Errorf("the index was not rebuilt in %s", rebuildLimit)
		}
	}
}
