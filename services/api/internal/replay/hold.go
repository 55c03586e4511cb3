package replay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// maxBatch bounds the deliveries of a batch, so what a crash can repeat.
	maxBatch = 256
	// troublePause is the wait before what failed is tried again.
	troublePause = time.Second
	// giveBackTime bounds how long a process that stops waits to give a job back.
	giveBackTime = 2 * time.Second
)

// errLost says that another process holds the job.
var errLost = errors.New("the job is another's now")

// hold is a job that this process holds.
type hold struct {
	r        *Runner
	job      *recordv1.Job
	revision uint64
	again    bool // the batch may have been made before, in part or whole
	// unwritten says that the job holds a batch, or an end, that is not written down yet.
	unwritten bool
	log       *slog.Logger
}

// run does the job until it is done, lost, or ctx ends.
func (h *hold) run(ctx context.Context) {
	for {
		err := h.step(ctx)
		switch {
		case ctx.Err() != nil:
			h.giveBack(ctx)
			return
		case errors.Is(err, errLost):
			h.log.InfoContext(ctx, "another process has taken the replay over")
			return
		case err != nil:
			h.log.WarnContext(ctx, "replay does not get on, trying again", "error", err)
			h.job.Replay.Trouble = trouble(err)
			h.again = true
			if errors.Is(h.wait(ctx, troublePause), errLost) {
				h.log.InfoContext(ctx, "another process has taken the replay over")
				return
			}
		case Ended(h.job.GetReplay()):
			h.log.InfoContext(ctx, "replay ended", "state", h.job.GetReplay().GetState().String(), "deliveries", h.job.GetReplay().GetDeliveries())
			return
		}
	}
}

// made is what became of a batch.
type made struct{ deliveries, skipped int64 }

// step makes the batch that is written down, selects the next one, and writes down both in one.
func (h *hold) step(ctx context.Context) error {
	if h.unwritten {
		return h.write(ctx) // nothing is made before it is written down
	}
	begun := time.Now()
	next := proto.CloneOf(h.job)
	var m made
	var p plan
	err := h.during(ctx, func(ctx context.Context) (err error) {
		if len(next.GetBatch()) > 0 {
			if m, err = h.r.make(ctx, next, h.again); err != nil {
				return err
			}
		}
		if !aborting(next) && next.GetNextSequence() <= next.GetLastSequence() {
			p, err = h.r.plan(ctx, next, batchSize(next.GetReplay().GetRate()))
		}
		return err
	})
	if err != nil && (errors.Is(err, errLost) || ctx.Err() != nil || !aborting(h.job) || len(h.job.GetBatch()) > 0) {
		return err
	}
	// An abort may have come meanwhile: then what was selected is not begun.
	stop := aborting(h.job)
	h.job.Batch = nil
	h.job.Replay.Deliveries += m.deliveries
	h.job.Replay.Skipped += m.skipped
	h.job.Replay.Trouble = ""
	h.again = false
	h.r.count(ctx, h.job, m.deliveries)
	switch {
	case stop:
		h.end(postriderv1.ReplayState_REPLAY_STATE_ABORTED)
	case p.next == 0:
		h.end(postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED)
	default:
		h.job.Batch, h.job.NextSequence = p.items, p.next
		h.job.Replay.Skipped += p.skipped
		if len(p.items) == 0 && p.next > h.job.GetLastSequence() {
			h.end(postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED)
		}
	}
	h.unwritten = true
	if err := h.write(ctx); err != nil {
		return err
	}
	return h.pace(ctx, begun, m.deliveries)
}

func (h *hold) end(state postriderv1.ReplayState) {
	h.job.Replay.State, h.job.Replay.EndTime = state, timestamppb.New(h.r.deps.Now())
	h.job.Batch = nil
	h.job.Holder = ""
}

func aborting(j *recordv1.Job) bool {
	return j.GetReplay().GetState() == postriderv1.ReplayState_REPLAY_STATE_ABORTING
}

// batchSize is about half a second's deliveries.
func batchSize(rate float64) int { return min(max(int(rate/2), 1), maxBatch) }

// pace waits until as much time has passed as the deliveries may take.
func (h *hold) pace(ctx context.Context, begun time.Time, deliveries int64) error {
	rate := h.job.GetReplay().GetRate()
	if deliveries == 0 || rate <= 0 || Ended(h.job.GetReplay()) {
		return nil
	}
	rest := time.Duration(float64(deliveries)/rate*float64(time.Second)) - time.Since(begun)
	return h.wait(ctx, rest)
}

// wait waits, and shows meanwhile that the holder lives. An abort ends it.
func (h *hold) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	return h.during(ctx, func(ctx context.Context) error {
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return nil
	})
}

// during does something and shows meanwhile that the holder lives. It ends it when the job is lost.
func (h *hold) during(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	h.r.wg.Go(func() { done <- do(ctx) })
	ticker := time.NewTicker(h.r.cfg.Lease / beats)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			was := aborting(h.job)
			err := h.write(ctx)
			if errors.Is(err, errLost) {
				cancel()
				return errors.Join(errLost, <-done)
			}
			if err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "replay's holder cannot be seen now", "error", err)
			}
			if !was && aborting(h.job) && len(h.job.GetBatch()) == 0 {
				cancel() // nothing is under way that must be finished
			}
		}
	}
}

// write stores the job as it is here, by compare-and-set. Others only ever abort it, or take it
// over: an abort is taken in and written with the rest; a job that is another's is lost.
func (h *hold) write(ctx context.Context) error {
	h.job.Beat++
	h.job.Replay.UpdateTime = timestamppb.New(h.r.deps.Now())
	for {
		revision, err := h.r.deps.Jobs.UpdateJob(ctx, h.job, h.revision)
		if err == nil {
			h.revision, h.unwritten = revision, false
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		account, id := h.job.GetReplay().GetAccountId(), h.job.GetReplay().GetId()
		stored, at, readErr := h.r.deps.Jobs.GetJob(ctx, account, id)
		switch {
		case errors.Is(readErr, config.ErrNotFound):
			return errLost // it was removed
		case readErr != nil:
			return errors.Join(err, readErr)
		case stored.GetHolder() == h.job.GetHolder() && stored.GetBeat() == h.job.GetBeat():
			h.revision, h.unwritten = at, false // ours: stored, and its acknowledgement was lost
			return nil
		case stored.GetHolder() != h.r.holder:
			return errLost
		case at == h.revision:
			return err // not stored, for no fault of the revision
		}
		h.revision = at
		if aborting(stored) && !Ended(h.job.GetReplay()) {
			h.job.Replay.State = postriderv1.ReplayState_REPLAY_STATE_ABORTING
		}
	}
}

// giveBack lets another process take the job at once. The batch that is written down is made again.
func (h *hold) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	if Ended(h.job.GetReplay()) && !h.unwritten {
		return
	}
	h.job.Holder = ""
	if err := h.write(ctx); err != nil {
		h.log.DebugContext(ctx, "replay not given back; another takes it over when its lease is over", "error", err)
	}
}

// trouble is an error for the owner of a job.
func trouble(err error) string {
	if f, ok := fault.As(fault.FromStatus(err)); ok {
		return f.Message
	}
	return "a store did not answer"
}

func (r *Runner) count(ctx context.Context, j *recordv1.Job, n int64) {
	kind := "replay"
	if j.GetReplay().GetDeadLetters() != nil {
		kind = "redrive"
	}
	r.made.Add(ctx, n, metric.WithAttributes(attribute.String("kind", kind)))
}
