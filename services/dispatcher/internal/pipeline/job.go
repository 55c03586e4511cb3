package pipeline

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
	"github.com/postrider/postrider/services/dispatcher/internal/quota"
)

// job is one delivery on its way through the pipeline, from the message that it came in.
type job struct {
	shard    *shard
	source   evidence.Source
	msg      *stream.Msg
	delivery *recordv1.Delivery
	// parcel and index are set if others came in the same message.
	parcel *parcel
	index  int
	// twins are repeats of the delivery in other messages, which end with it.
	twins []*job
	// kind and fired are of a due message: why it waited, and whether the server fired it itself. due is
	// the message as it was.
	kind  recordv1.RetryKind
	fired bool
	due   *recordv1.Retry
	// passed is set when the delivery is put into another message, and nothing has become of it.
	passed bool
	// later is what a later version wrote into the due message, for the record that follows it.
	later protoreflect.RawFields
	// lane and probe are set while the job holds a place in its webhook's lane.
	lane  *lane.Lane[*job]
	probe bool
	// quota and stage are set while the job holds a place in its account's quota.
	quota *accountQuota
	stage quota.Stage
	// span of the work on the message; nil if its trace is not recorded. trace is the context that
	// holds it.
	span  trace.Span
	trace context.Context //nolint:containedctx // a job goes from queue to queue
	// series is the delivery's as it came, for those who look at the job while its progress is written.
	series int32
	// ordered says that it has a place in a line. The rest is its line's: waits and since while it waits for its
	// turn; rest, placed and stale say what it left.
	ordered atomic.Bool
	waits   bool
	stale   bool
	since   time.Time
	rest    *recordv1.Retry
	placed  uint64
	// task is what a worker does with it, in place of an attempt.
	task func(*job)
	// ready is when it was given to the workers.
	ready time.Time

	// Links of the shard's list of unsettled messages, ordered by touched.
	prev, next *job
	touched    time.Time
}

// heldStill says that the delivery was held and that nothing has happened since: its record came due
// by itself. One that comes earlier was released, which is journalled, as if its webhook were active.
func (j *job) heldStill(now time.Time) bool {
	return j.kind == recordv1.RetryKind_RETRY_KIND_HELD && !j.due.GetDueTime().AsTime().After(now)
}

// begin begins the job's span. What was accepted long ago, and waited or is replayed, is a trace of
// its own.
func (j *job) begin(ctx context.Context) {
	d := j.delivery
	j.trace, j.span = j.msg.Begin(ctx, stream.Work{
		Accepted: d.GetTraceparent(), Later: j.source == evidence.Due || d.GetReplayId() != "",
		Account: d.GetAccountId(), Event: d.GetEventId(), Delivery: d.GetId(), Webhook: d.GetWebhookId(),
	})
}

// end ends it.
func (j *job) end() {
	if j.span != nil {
		j.span.End()
	}
}

func (j *job) retry() bool { return j.source == evidence.Due }

// entry begins a journal entry that settles the job.
func (j *job) entry(at time.Time) *recordv1.JournalEntry {
	e := &recordv1.JournalEntry{
		Time:       timestamppb.New(at),
		AccountId:  j.delivery.GetAccountId(),
		EventId:    j.delivery.GetEventId(),
		DeliveryId: j.delivery.GetId(),
		WebhookId:  j.delivery.GetWebhookId(),
		EventType:  j.delivery.GetEventType(),
		Series:     j.delivery.GetProgress().GetSeries(),
		CreateTime: j.delivery.GetRouteTime(),
	}
	switch {
	case j.source == evidence.Due:
		e.DueSequence = j.msg.Sequence()
	case j.parcel == nil:
		e.DeliverySequence = j.msg.Sequence()
	}
	return e
}

// progress is the delivery's, made if it has none yet.
func (j *job) progress() *recordv1.Progress {
	if j.delivery.GetProgress() == nil {
		j.delivery.Progress = &recordv1.Progress{}
	}
	return j.delivery.GetProgress()
}
