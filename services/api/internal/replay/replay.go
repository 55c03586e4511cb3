// Package replay does the jobs that make deliveries anew: replays of events and redrives of dead
// letters. What a job has done and is doing stands in the bucket `jobs`; the package itself keeps
// nothing, and a process that is killed loses nothing but time.
//
// The order is the argument (ADR 0014): a batch is written down, then made, then written down as
// made together with the next one. A crash in between repeats the batch that is written down, with
// the same ids, and never selects it anew.
package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// jobs is all that is needed of the configuration. *config.Store is one.
type jobs interface {
	JobNames(ctx context.Context) ([]config.JobName, error)
	GetJob(ctx context.Context, account, id string) (*recordv1.Job, uint64, error)
	UpdateJob(ctx context.Context, j *recordv1.Job, rev uint64) (uint64, error)
	GetWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, uint64, error)
}

// events is all that is needed of EVENTS.
type events interface {
	Select(ctx context.Context, sel eventstream.Selection) ([]eventstream.Selected, error)
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
	MaxAge() time.Duration
}

// deliveries is all that is needed of DELIVERIES.
type deliveries interface {
	Publish(ctx context.Context, d *recordv1.Delivery, done func(error)) error
	Layout() postrider.Layout
}

// letters is all that is needed of DEADLETTERS.
type letters interface {
	Select(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from uint64, limit, bytes int) ([]deadletterstream.Item, error)
	Get(ctx context.Context, account postrider.AccountID, delivery postrider.DeliveryID) (*recordv1.DeadLetter, uint64, error)
	At(ctx context.Context, sequence uint64) (*recordv1.DeadLetter, error)
	Remove(ctx context.Context, sequence uint64) error
}

// journalWriter is all that is needed of the journal.
type journalWriter interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// deliveryLog is all that is needed of the delivery log.
type deliveryLog interface {
	Delivery(ctx context.Context, account postrider.AccountID, id string) (*logstore.Delivery, error)
	Deliveries(ctx context.Context, q logstore.Query) ([]*logstore.Delivery, error)
}

// matcher is all that is needed of the router.
type matcher interface {
	MatchEvents(ctx context.Context, in *routerv1.MatchEventsRequest, opts ...grpc.CallOption) (*routerv1.MatchEventsResponse, error)
}

// scheduler is all that is needed of the scheduler.
type scheduler interface {
	ScheduleRetry(ctx context.Context, in *schedulerv1.ScheduleRetryRequest, opts ...grpc.CallOption) (*schedulerv1.ScheduleRetryResponse, error)
}

// Config is how jobs are run.
type Config struct {
	// Lease is for how long a job must be seen unchanged before another process takes it over.
	Lease time.Duration
	// Poll is how often jobs are looked for.
	Poll time.Duration
	// Running is how many jobs a process runs at once.
	Running int
}

// Default is the configuration of a deployment.
func Default() Config { return Config{Lease: 15 * time.Second, Poll: time.Second, Running: 16} }

// beats is how often a holder writes within a lease.
const beats = 5

// Deps is what a Runner works with.
type Deps struct {
	Jobs       jobs
	Events     events
	Deliveries deliveries
	Letters    letters
	Journal    journalWriter
	Log        deliveryLog
	Router     matcher
	Scheduler  scheduler
	Logger     *slog.Logger
	Meter      metric.Meter
	Now        func() time.Time
}

// Runner runs the jobs that no other process runs.
type Runner struct {
	cfg    Config
	deps   Deps
	holder string // of this start of the process
	made   metric.Int64Counter
	wake   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	running map[config.JobName]struct{}

	// Of the loop alone.
	seen  map[config.JobName]sighting
	ended map[config.JobName]struct{}
}

// sighting is when a job was first seen at a revision, by this process's own monotonic clock.
type sighting struct {
	revision uint64
	since    time.Time
}

// New returns a runner that has not started.
func New(cfg Config, deps Deps) (*Runner, error) {
	made, err := deps.Meter.Int64Counter("postrider.replay.deliveries", metric.WithDescription("Deliveries made by replays and redrives."))
	if err != nil {
		return nil, err
	}
	return &Runner{
		cfg: cfg, deps: deps, holder: nuid.Next(), made: made, wake: make(chan struct{}, 1),
		running: make(map[config.JobName]struct{}), seen: make(map[config.JobName]sighting), ended: make(map[config.JobName]struct{}),
	}, nil
}

// Wake has jobs looked for at once.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run looks for jobs and runs them until ctx ends. What is under way is finished or given back.
func (r *Runner) Run(ctx context.Context) error {
	defer r.wg.Wait()
	ticker := time.NewTicker(r.cfg.Poll)
	defer ticker.Stop()
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.deps.Logger.WarnContext(ctx, "replays cannot be looked for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-r.wake:
		}
	}
}

// open is a job that has not ended.
type open struct {
	name     config.JobName
	job      *recordv1.Job
	revision uint64
}

// look takes the jobs that nobody runs.
func (r *Runner) look(ctx context.Context) error {
	names, err := r.deps.Jobs.JobNames(ctx)
	if err != nil {
		return err
	}
	r.forget(names)
	var list []open
	for _, name := range names {
		if _, ok := r.ended[name]; ok {
			continue
		}
		job, revision, err := r.deps.Jobs.GetJob(ctx, name.Account, name.ID)
		if errors.Is(err, config.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if Ended(job.GetReplay()) {
			r.ended[name] = struct{}{}
			delete(r.seen, name)
			continue
		}
		list = append(list, open{name, job, revision})
	}
	for _, o := range list {
		if r.takeable(o, list) {
			r.take(ctx, o)
		}
	}
	return nil
}

// forget drops what is remembered of jobs that are not kept any more.
func (r *Runner) forget(names []config.JobName) {
	if len(r.ended) <= 2*len(names)+100 {
		return
	}
	kept := make(map[config.JobName]struct{})
	for _, name := range names {
		if _, ok := r.ended[name]; ok {
			kept[name] = struct{}{}
		}
	}
	r.ended = kept
}

// takeable says whether nobody runs the job, and nothing stands in its way.
func (r *Runner) takeable(o open, all []open) bool {
	r.mu.Lock()
	_, mine := r.running[o.name]
	full := len(r.running) >= r.cfg.Running
	r.mu.Unlock()
	if mine {
		return false
	}
	if o.job.GetHolder() != "" {
		s := r.seen[o.name]
		if s.revision != o.revision {
			r.seen[o.name] = sighting{o.revision, time.Now()}
			return false
		}
		return !full && time.Since(s.since) > r.cfg.Lease
	}
	return !full && !blocked(o, all)
}

// blocked says whether a redrive waits for another one: two that may have letters in common would
// both make them deliveries. The one that was begun goes first, then the one that was created first.
func blocked(o open, all []open) bool {
	mine := o.job.GetReplay()
	if mine.GetDeadLetters() == nil || aborting(o.job) && len(o.job.GetBatch()) == 0 {
		return false
	}
	for _, other := range all {
		theirs := other.job.GetReplay()
		if other.name == o.name || theirs.GetAccountId() != mine.GetAccountId() || theirs.GetDeadLetters() == nil {
			continue
		}
		a, b := mine.GetDeadLetters().GetWebhookId(), theirs.GetDeadLetters().GetWebhookId()
		if a != "" && b != "" && a != b {
			continue
		}
		if other.job.GetHolder() != "" || theirs.GetId() < mine.GetId() {
			return true
		}
	}
	return false
}

// take writes this process down as the holder and runs the job. If another was quicker, it is the
// other's.
func (r *Runner) take(ctx context.Context, o open) {
	again := len(o.job.GetBatch()) > 0
	o.job.Holder = r.holder
	o.job.Beat++
	revision, err := r.deps.Jobs.UpdateJob(ctx, o.job, o.revision)
	if err != nil {
		if !errors.Is(err, config.ErrConflict) {
			r.deps.Logger.WarnContext(ctx, "replay not taken", "replay", o.name.ID, "error", err)
		}
		return
	}
	delete(r.seen, o.name)
	h := &hold{r: r, job: o.job, revision: revision, again: again, log: r.deps.Logger.With("replay", o.name.ID)}
	r.mu.Lock()
	r.running[o.name] = struct{}{}
	r.mu.Unlock()
	r.wg.Go(func() {
		h.run(ctx)
		r.mu.Lock()
		delete(r.running, o.name)
		r.mu.Unlock()
		r.Wake() // another may have waited for this one
	})
}

// Ended says whether a job is over.
func Ended(r *postriderv1.Replay) bool {
	return r.GetState() == postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED || r.GetState() == postriderv1.ReplayState_REPLAY_STATE_ABORTED
}

// Bounds of a preview.
const (
	previewTime = 8 * time.Second
	previewPage = 2000
)

// Preview counts what a job would do as things are now, for as long as a caller waits.
func (r *Runner) Preview(ctx context.Context, job *recordv1.Job) (*postriderv1.ReplayPreview, error) {
	until := time.Now().Add(previewTime)
	p := &postriderv1.ReplayPreview{}
	for job.GetNextSequence() <= job.GetLastSequence() {
		if time.Now().After(until) {
			p.Truncated = true
			break
		}
		next, err := r.plan(ctx, job, previewPage)
		if err != nil {
			return nil, fmt.Errorf("count what a replay would do: %w", err)
		}
		p.Selected += next.selected
		p.Deliveries += int64(next.deliveries)
		job.NextSequence = next.next
	}
	return p, nil
}
