package settle

import (
	"context"
	"errors"
	"log/slog"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"

	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
)

// scheduler is all that the settler needs of the scheduler.
type scheduler interface {
	ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, opts ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error)
}

// records is all that the settler needs of RETRIES. *retrystream.Streams is one.
type records interface {
	Put(ctx context.Context, r *recordv1.Retry, done func(at retrystream.Place, err error)) error
}

// Bounds of a batch of records.
const (
	maxBatch      = 256
	maxBatchBytes = 4 << 20
	// linger is how long a batch that is not full waits for more.
	linger = 3 * time.Millisecond
)

// handOver gives records to the scheduler in batches: during an outage of a big receiver,
// everything is handed over.
func (s *Settler) handOver() {
	var batch []*pending
	for first, ok := s.records.Pop(); ok; first, ok = s.records.Pop() {
		batch = s.fill(append(batch[:0], first))
		s.store(batch)
		clear(batch)
	}
}

func (s *Settler) fill(batch []*pending) []*pending {
	batch[0].measure()
	bytes := batch[0].size
	fits := func(p *pending) bool {
		p.measure()
		if bytes+p.size > maxBatchBytes {
			return false
		}
		bytes += p.size
		return true
	}
	if batch = s.records.Take(batch, maxBatch, fits); len(batch) == maxBatch || s.ctx.Err() != nil {
		return batch
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
	return s.records.Take(batch, maxBatch, fits)
}

func (p *pending) measure() {
	if p.size == 0 {
		p.size = proto.Size(p.Retry)
	}
}

// store gives the batch to the scheduler, which stores, indexes and answers. What it does not
// store the dispatcher stores itself, through the stream's owner; the scheduler indexes it later.
func (s *Settler) store(batch []*pending) {
	left := batch
	if s.schedulerUp() {
		var err error
		if left, err = s.ask(batch); err != nil {
			s.schedulerFailed(err)
		}
	}
	for _, p := range left {
		err := s.deps.Records.Put(s.ctx, p.Retry, func(at retrystream.Place, err error) { s.stored(p, at.Sequence, err) })
		if err != nil {
			s.stored(p, 0, err)
		}
	}
}

// stored ends the hand-over of a record that the dispatcher stored itself. A later record of the
// delivery that stands already means that this call repeats one that had its effect.
func (s *Settler) stored(p *pending, sequence uint64, err error) {
	if err != nil && !errors.Is(err, retrystream.ErrSuperseded) {
		s.again(p, "retries", err, s.hand)
		return
	}
	if superseded, ok := errors.AsType[*retrystream.SupersededError](err); ok {
		sequence = superseded.Standing.Sequence
	}
	s.deps.Meters.HandedOver(s.ctx, "dispatcher", 1)
	s.placed(p, sequence)
}

func (s *Settler) placed(p *pending, sequence uint64) {
	if p.Placed != nil {
		p.Placed(sequence)
	}
	s.done(p)
}

// trace begins the span of a call for the deliveries of the batch whose traces are recorded, if
// there are any: it belongs to the trace of the first and links to all.
func (s *Settler) trace(ctx context.Context, batch []*pending) (with context.Context, end func()) {
	var links []trace.Link
	for _, p := range batch {
		if p.Trace.IsSampled() {
			links = append(links, telemetry.Continuing(p.Trace))
		}
	}
	if len(links) == 0 {
		return ctx, func() {}
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
	ctx, span := s.deps.Tracer.Start(ctx, "hand over", trace.WithLinks(links...),
		trace.WithAttributes(semconv.MessagingBatchMessageCount(len(batch))))
	return ctx, func() { span.End() }
}

// ask returns what the scheduler did not store.
func (s *Settler) ask(batch []*pending) ([]*pending, error) {
	req := &schedulerv1.ScheduleRetryRequest{Retries: make([]*recordv1.Retry, len(batch))}
	for i, p := range batch {
		req.Retries[i] = p.Retry
	}
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	ctx, end := s.trace(ctx, batch)
	defer end()
	res, err := s.deps.Scheduler.ScheduleRetry(ctx, req)
	if err != nil {
		return batch, err
	}
	s.schedulerAnswered()
	if len(res.GetResults()) != len(batch) {
		return batch, errors.New("the scheduler did not answer for every record")
	}
	var left []*pending
	for i, r := range res.GetResults() {
		switch r.GetStatus() {
		case schedulerv1.ScheduleStatus_SCHEDULE_STATUS_STORED, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_SUPERSEDED:
			s.placed(batch[i], r.GetSequence())
		case schedulerv1.ScheduleStatus_SCHEDULE_STATUS_UNSPECIFIED, schedulerv1.ScheduleStatus_SCHEDULE_STATUS_FAILED:
			left = append(left, batch[i])
		default:
			left = append(left, batch[i])
		}
	}
	s.deps.Meters.HandedOver(s.ctx, "scheduler", len(batch)-len(left))
	return left, nil
}

func (s *Settler) schedulerUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().After(s.schedulerUntil)
}

func (s *Settler) schedulerAnswered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedulerPause = 0
}

// schedulerFailed lets the scheduler alone for a while, longer each time: one that hangs would
// otherwise cost each batch its timeout.
func (s *Settler) schedulerFailed(err error) {
	if s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	s.schedulerPause = min(max(2*s.schedulerPause, shortestPause), longestPause)
	s.schedulerUntil = time.Now().Add(s.schedulerPause)
	quiet := time.Since(s.logged["scheduler"]) < 10*time.Second
	if !quiet {
		s.logged["scheduler"] = time.Now()
	}
	s.mu.Unlock()
	if !quiet {
		s.deps.Logger.WarnContext(s.ctx, "the scheduler is away; the dispatcher stores retries itself", slog.Any("error", err))
	}
}
