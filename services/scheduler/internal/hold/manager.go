// Package hold keeps what waits for a webhook in line with the webhook's state: paused or
// disabled, it is held; active again, it is released in the order of its events; deleted, it is
// cancelled. It keeps nothing but which webhooks to look at, and may lose that: the sweep finds
// them again. Replicas may do the same work at once; every step is a compare-and-set on the
// record's sequence, so it is done once.
package hold

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

// records is all that is needed of RETRIES.
type records interface {
	ScanWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from retrystream.Place, fn func(retrystream.Record) error) error
	GetAll(ctx context.Context, shard int, sequences []uint64) ([]*retrystream.Record, error)
	ReplaceAsync(ctx context.Context, old retrystream.Record, r *recordv1.Retry, done func(sequence uint64, err error)) error
	Release(ctx context.Context, r retrystream.Record, done func(error)) error
}

// events is all that is needed of EVENTS.
type events interface {
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
}

// index is all that is needed of the index.
type index interface {
	Drop(ctx context.Context, members ...retryset.Member) error
	TryLock(ctx context.Context, name string, ttl time.Duration) (lock retryset.Lock, ok bool, err error)
}

// journal is all that is needed of the journal.
type journal interface {
	Held(ctx context.Context, records []retrystream.Record, reason string) error
	Released(ctx context.Context, records []retrystream.Record, reason string) error
}

// canceller ends what waits for deleted webhooks.
type canceller interface {
	Webhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, reason string) (int64, error)
}

// Config says how fast and how much at once.
type Config struct {
	// Rate is how many held deliveries a second are released for a webhook without a limit.
	Rate float64
	// Workers is how many webhooks are looked at at once.
	Workers int
	// Window is how many held records of one webhook are put in order at once.
	Window int
}

// Deps is what a Manager works with.
type Deps struct {
	Records  records
	Events   events
	Index    index
	Journal  journal
	Cancel   canceller
	Registry *webhooks.Registry
	Metrics  *Metrics
	Logger   *slog.Logger
	Now      func() time.Time
}

// Manager looks at webhooks whose state changed.
type Manager struct {
	cfg    Config
	deps   Deps
	agenda *agenda
}

// New returns a manager. Run runs it.
func New(cfg Config, deps Deps) *Manager {
	return &Manager{cfg: cfg, deps: deps, agenda: newAgenda()}
}

// Check asks for a look at a webhook. It does not wait for it. A deleted one is looked at a little
// later: who deleted it asks for the cancellation and wants to know how much it was, and the look
// is for the case that nobody does.
func (m *Manager) Check(id postrider.WebhookID) {
	at := m.deps.Now()
	if w, ok := m.deps.Registry.Lookup(id); ok && w.State == postrider.WebhookDeleted {
		at = at.Add(pauseAfterDelete)
	}
	m.agenda.add(id, at)
}

// Run looks at webhooks until the context ends, and returns when no look is going on.
func (m *Manager) Run(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	workers := make(chan struct{}, m.cfg.Workers)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ids, next := m.agenda.take(m.deps.Now(), max(cap(workers)-len(workers), 1))
		for _, id := range ids {
			select {
			case workers <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			looks.Go(func() {
				m.look(ctx, id)
				<-workers
				m.agenda.done(id, m.deps.Now())
			})
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(next.Sub(m.deps.Now()), time.Millisecond)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-m.agenda.wake:
		}
	}
}

// look brings what waits for one webhook in line. What it could not finish it asks for again.
func (m *Manager) look(ctx context.Context, id postrider.WebhookID) {
	w, ok := m.deps.Registry.Lookup(id)
	if !ok {
		return
	}
	var again bool
	var err error
	switch w.State {
	case postrider.WebhookActive:
		again, err = m.drain(ctx, w)
	case postrider.WebhookPaused, postrider.WebhookDisabled:
		_, err = m.Hold(ctx, w)
	case postrider.WebhookDeleted:
		if _, err = m.deps.Cancel.Webhook(ctx, w.Account, w.ID, "webhook_deleted"); err == nil {
			m.deps.Registry.Forget(w.ID)
		}
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errChanged):
		m.agenda.add(id, m.deps.Now())
	case err != nil:
		m.deps.Metrics.failed(ctx)
		m.deps.Logger.WarnContext(ctx, "webhook not brought in line with its state yet",
			"webhook", id, "state", w.State, "error", err)
		m.agenda.add(id, m.deps.Now().Add(pauseAfterError))
	case again:
		m.agenda.add(id, m.deps.Now().Add(pauseAfterLock))
	}
}

const (
	// pauseAfterError is how long a webhook rests whose look ended in an error.
	pauseAfterError = 2 * time.Second
	// pauseAfterDelete is how long it rests when it was deleted.
	pauseAfterDelete = 2 * time.Second
	// pauseAfterLock is how long it rests when another replica is at it.
	pauseAfterLock = 2 * time.Second
)

// errChanged says that the webhook's state changed while it was looked at.
var errChanged = errors.New("webhook changed meanwhile")
