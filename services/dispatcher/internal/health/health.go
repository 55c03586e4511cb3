// Package health tells the api service how the attempts of webhooks end, so that one that fails for
// too long is disabled (ADR 0016). It keeps, for each webhook of the shards that are held, whether
// the last attempt succeeded and what was not reported yet. Losing that, with the process, costs at
// most one success that was not reported; whoever takes the shard over knows nothing of its
// webhooks and reports the first outcome of each.
package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
)

// Reporter takes reports. It returns the ids of webhooks whose reports could not be taken.
type Reporter interface {
	Report(ctx context.Context, reports []*apiv1.WebhookOutcomes) (failed []string, err error)
}

// Times and sizes of reports.
const (
	flushEvery   = time.Second
	reportTime   = 30 * time.Second
	farewellTime = time.Second
	batchSize    = 64
	// forgetAfter is after how long a webhook that succeeded and had no attempt since is forgotten.
	forgetAfter = time.Hour
)

// Outcome is how an attempt ended.
type Outcome struct {
	Account, Webhook string
	Succeeded        bool
	Start, End       time.Time
	StatusCode       int32
	ErrorClass       string
}

// Recorder gathers outcomes and reports them.
type Recorder struct {
	reporter Reporter
	every    time.Duration
	now      func() time.Time
	log      *slog.Logger

	mu      sync.Mutex
	watches map[*Watch]struct{}
	left    map[string]*pending // of watches that were closed, by webhook

	ctx  context.Context //nolint:containedctx // the recorder's own lifetime
	stop context.CancelFunc
	done chan struct{} // nil if it was not started
}

// pending is what was not reported of a webhook.
type pending struct {
	account              string
	success, since, last time.Time // zero: none
	status               int32
	class                string
}

// entry is what a watch knows of a webhook.
type entry struct {
	pending

	known   bool      // the api service has been told of its state
	failing bool      // the last attempt failed
	dirty   bool      // the report is due
	told    time.Time // when it was reported last
	used    time.Time
}

// Watch gathers the outcomes of one held shard.
type Watch struct {
	r *Recorder

	mu       sync.Mutex
	webhooks map[string]*entry
	swept    time.Time
}

// New returns a recorder that reports a webhook that goes on to fail once in every. Without a
// reporter it does nothing.
func New(reporter Reporter, every time.Duration, now func() time.Time, log *slog.Logger) *Recorder {
	r := &Recorder{
		reporter: reporter, every: every, now: now, log: log,
		watches: map[*Watch]struct{}{}, left: map[string]*pending{},
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Start begins to report.
func (r *Recorder) Start() {
	if r.reporter == nil {
		return
	}
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		tick := time.NewTicker(min(flushEvery, r.every))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.Flush(r.ctx)
			case <-r.ctx.Done():
				farewell, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), farewellTime)
				r.Flush(farewell)
				cancel()
				return
			}
		}
	}()
}

// Close reports what it can within a second and ends. Call it when every watch was closed.
func (r *Recorder) Close() {
	r.stop()
	if r.done != nil {
		<-r.done
	}
}

// Open begins to watch the webhooks of a shard that was taken. Nothing is known of them.
func (r *Recorder) Open() *Watch {
	w := &Watch{r: r, webhooks: map[string]*entry{}, swept: r.now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watches[w] = struct{}{}
	return w
}

// Close ends a watch. What it did not report, it leaves to the recorder.
func (w *Watch) Close() {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.r.watches, w)
	for id, e := range w.webhooks {
		if e.reportable() {
			w.r.leave(id, e.pending)
		}
	}
	w.webhooks = nil
}

// leave keeps what was not reported of a webhook that nobody watches. The caller holds mu.
func (r *Recorder) leave(id string, p pending) {
	if before := r.left[id]; before != nil {
		p = before.and(&p)
	}
	r.left[id] = &p
}

// Saw takes an outcome.
func (w *Watch) Saw(o *Outcome) {
	if w.r.reporter == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.webhooks == nil { // The shard was given up.
		return
	}
	e := w.webhooks[o.Webhook]
	if e == nil {
		e = &entry{pending: pending{account: o.Account}}
		w.webhooks[o.Webhook] = e
	}
	e.used = o.End
	if o.Succeeded {
		if !e.known || e.failing {
			e.pending = pending{account: o.Account, success: o.End}
			e.dirty = true
		}
		e.failing = false
		return
	}
	if e.since.IsZero() {
		e.since = o.Start
	}
	e.last, e.status, e.class = o.End, o.StatusCode, o.ErrorClass
	if !e.known || !e.failing || w.r.now().Sub(e.told) >= w.r.every {
		e.dirty = true
	}
	e.failing = true
}

// reportable reports whether there is anything to report.
func (p *pending) reportable() bool { return !p.success.IsZero() || !p.since.IsZero() }

// and is what two spans come to, of which next is the later.
func (p *pending) and(next *pending) pending {
	if !next.success.IsZero() {
		return *next
	}
	both := *p
	if next.since.IsZero() {
		return both
	}
	if both.since.IsZero() {
		both.since = next.since
	}
	both.last, both.status, both.class = next.last, next.status, next.class
	return both
}

// taken is a report on its way.
type taken struct {
	watch   *Watch // nil for what a closed watch left
	webhook string
	pending pending
}

// Flush reports what is due.
func (r *Recorder) Flush(ctx context.Context) {
	for ctx.Err() == nil {
		batch := r.take()
		if len(batch) == 0 {
			return
		}
		if !r.send(ctx, batch) {
			return // again at the next flush
		}
	}
}

// take takes reports that are due, at most a batch.
func (r *Recorder) take() []taken {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []taken
	for id, p := range r.left {
		if len(batch) == batchSize {
			return batch
		}
		batch = append(batch, taken{webhook: id, pending: *p})
		delete(r.left, id)
	}
	for w := range r.watches {
		batch = w.take(batch)
	}
	return batch
}

func (w *Watch) take(batch []taken) []taken {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.r.now()
	sweep := now.Sub(w.swept) > forgetAfter/4
	if sweep {
		w.swept = now
	}
	for id, e := range w.webhooks {
		switch {
		case e.dirty && len(batch) < batchSize:
			batch = append(batch, taken{watch: w, webhook: id, pending: e.pending})
			e.pending, e.dirty, e.told, e.known = pending{account: e.account}, false, now, true
		case sweep && e.known && !e.failing && !e.dirty && now.Sub(e.used) > forgetAfter:
			delete(w.webhooks, id)
		}
	}
	return batch
}

// send reports a batch and puts back what was not taken. It reports whether all of it was.
func (r *Recorder) send(ctx context.Context, batch []taken) bool {
	reports := make([]*apiv1.WebhookOutcomes, len(batch))
	for i, t := range batch {
		reports[i] = t.pending.report(t.webhook)
	}
	call, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	failed, err := r.reporter.Report(call, reports)
	if err == nil && len(failed) == 0 {
		return true
	}
	r.log.DebugContext(ctx, "outcomes are reported later", slog.Int("webhooks", len(batch)), slog.Any("error", err))
	refused := map[string]bool{}
	for _, id := range failed {
		refused[id] = true
	}
	for _, t := range batch {
		if err != nil || refused[t.webhook] {
			r.putBack(t)
		}
	}
	return false
}

func (r *Recorder) putBack(t taken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.watch != nil && t.watch.putBack(t) {
		return
	}
	// What a watch has seen since is the later.
	next := r.left[t.webhook]
	if next != nil {
		t.pending = t.pending.and(next)
	}
	r.left[t.webhook] = &t.pending
}

// putBack reports false if the watch was closed meanwhile.
func (w *Watch) putBack(t taken) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.webhooks[t.webhook]
	if e == nil {
		return false
	}
	e.pending, e.dirty = t.pending.and(&e.pending), true
	return true
}

func (p *pending) report(webhook string) *apiv1.WebhookOutcomes {
	out := &apiv1.WebhookOutcomes{AccountId: p.account, WebhookId: webhook, LastStatusCode: p.status, LastErrorClass: p.class}
	if !p.success.IsZero() {
		out.SuccessTime = timestamppb.New(p.success)
	}
	if !p.since.IsZero() {
		out.FailingSince, out.LastFailureTime = timestamppb.New(p.since), timestamppb.New(p.last)
	}
	return out
}
