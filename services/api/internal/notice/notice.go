// Package notice publishes operational events: what Postrider tells an account about its own
// webhooks and dead letters, as events of the account (ADR 0016). It owns the way of a notice: it is
// stored before what it tells of is done, published after it, and removed when EVENTS has it. What a
// dead process left is published by a sweep. A notice is lost only if its process dies between deed
// and publication and the deed is undone before the sweep.
package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// store is all that is needed of the configuration.
type store interface {
	PutNotice(ctx context.Context, n *recordv1.Notice) error
	DeleteNotice(ctx context.Context, account, event string) error
	ListNotices(ctx context.Context, limit int) ([]config.Entry[*recordv1.Notice], error)
	GetWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, uint64, error)
	GetFailing(ctx context.Context, account, webhook string) (*recordv1.Failing, uint64, error)
	GetAnnounced(ctx context.Context, account string) (*recordv1.Announced, uint64, error)
	PutAnnounced(ctx context.Context, rec *recordv1.Announced, rev uint64) error
}

// events is all that is needed of EVENTS.
type events interface {
	Publish(ctx context.Context, ev *recordv1.Event, done func(eventstream.Stored, error)) error
}

// letters is all that is needed of DEADLETTERS.
type letters interface {
	DiedBefore(ctx context.Context, cutoff time.Time, fn func(deadletterstream.Item) error) error
	MaxAge() time.Duration
}

// Config says whom to tell, and when.
type Config struct {
	// Operator is the account that gets a copy of each operational event; empty for none.
	Operator string
	// Lead is how long before dead letters expire their account is told; 0 for never.
	Lead time.Duration
}

// Deps is what a Publisher works with.
type Deps struct {
	Store   store
	Events  events
	Letters letters
	Logger  *slog.Logger
	Now     func() time.Time
}

// Publisher stores and publishes notices.
type Publisher struct {
	cfg  Config
	deps Deps
}

// New returns a publisher. Run sweeps.
func New(cfg Config, deps Deps) *Publisher { return &Publisher{cfg: cfg, deps: deps} }

// Times of the sweep.
const (
	sweepEvery = 30 * time.Second
	// deedTime is longer than any write to the configuration takes until it is done or refused: a
	// notice that is younger may still wait for its deed.
	deedTime  = time.Minute
	sweepSize = 1000
)

// Prepare stores notices before what they tell of is done.
func (p *Publisher) Prepare(ctx context.Context, list []*recordv1.Notice) error {
	for _, n := range list {
		if err := p.deps.Store.PutNotice(ctx, n); err != nil {
			return fmt.Errorf("prepare notice: %w", err)
		}
	}
	return nil
}

// Withdraw removes notices of what was not done. What it cannot remove the sweep drops.
func (p *Publisher) Withdraw(ctx context.Context, list []*recordv1.Notice) {
	for _, n := range list {
		if err := p.deps.Store.DeleteNotice(ctx, n.GetEvent().GetAccountId(), n.GetEvent().GetId()); err != nil {
			p.deps.Logger.DebugContext(ctx, "notice is left to the sweep", "event", n.GetEvent().GetId(), "error", err)
		}
	}
}

// Send publishes prepared notices of what is done now. What cannot be published is left to the
// sweep.
//
// Publish, then remove: a crash in between publishes once more, under the same event id.
func (p *Publisher) Send(ctx context.Context, list []*recordv1.Notice) {
	for _, n := range list {
		if err := p.publish(ctx, n.GetEvent()); err != nil {
			p.deps.Logger.WarnContext(ctx, "notice is left to the sweep", "event", n.GetEvent().GetId(), "error", err)
			continue
		}
		p.Withdraw(ctx, []*recordv1.Notice{n})
	}
}

func (p *Publisher) publish(ctx context.Context, ev *recordv1.Event) error {
	done := make(chan error, 1)
	if err := p.deps.Events.Publish(ctx, ev, func(_ eventstream.Stored, err error) { done <- err }); err != nil {
		return fmt.Errorf("publish %s: %w", ev.GetType(), err)
	}
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("publish %s: %w", ev.GetType(), err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish %s: %w", ev.GetType(), ctx.Err())
	}
}

// Run sweeps until ctx ends. Replicas may sweep at once: a notice is the same event whoever
// publishes it.
func (p *Publisher) Run(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	expiry := time.NewTicker(p.lookEvery())
	defer expiry.Stop()
	p.attempt(ctx, "announce dead letters", p.Announce)
	for {
		select {
		case <-sweep.C:
			p.attempt(ctx, "sweep notices", p.Sweep)
		case <-expiry.C:
			p.attempt(ctx, "announce dead letters", p.Announce)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Publisher) attempt(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && ctx.Err() == nil {
		p.deps.Logger.WarnContext(ctx, "operational events are late", "step", what, "error", err)
	}
}

// Sweep publishes what other processes prepared, did and did not live to publish, and drops what
// was not done.
func (p *Publisher) Sweep(ctx context.Context) error {
	list, err := p.deps.Store.ListNotices(ctx, sweepSize)
	if err != nil {
		return fmt.Errorf("sweep notices: %w", err)
	}
	var errs []error
	for _, entry := range list {
		n := entry.Record
		if p.deps.Now().Sub(n.GetCreateTime().AsTime()) < deedTime {
			continue
		}
		done, err := p.done(ctx, n)
		switch {
		case err != nil:
			errs = append(errs, err)
		case done:
			p.Send(ctx, []*recordv1.Notice{n})
		default:
			p.Withdraw(ctx, []*recordv1.Notice{n})
		}
	}
	return errors.Join(errs...)
}

// done reports whether what a notice tells of was done.
func (p *Publisher) done(ctx context.Context, n *recordv1.Notice) (bool, error) {
	switch {
	case n.GetState() != postriderv1.WebhookState_WEBHOOK_STATE_UNSPECIFIED:
		rec, _, err := p.deps.Store.GetWebhook(ctx, n.GetAccountId(), n.GetWebhookId())
		w := rec.GetWebhook()
		return w.GetState() == n.GetState() && w.GetStateTime().AsTime().Equal(n.GetStateTime().AsTime()), found(err)
	case n.GetFailingSince() != nil:
		f, _, err := p.deps.Store.GetFailing(ctx, n.GetAccountId(), n.GetWebhookId())
		return f.GetSince().AsTime().Equal(n.GetFailingSince().AsTime()) && f.GetWarnedPercent() >= n.GetPercent(), found(err)
	case n.GetLetterSequence() > 0:
		a, _, err := p.deps.Store.GetAnnounced(ctx, n.GetAccountId())
		return a.GetLetterSequence() >= n.GetLetterSequence(), found(err)
	}
	return false, nil
}

// found is an error other than that something is not there: what is not there was not done.
func found(err error) error {
	if errors.Is(err, config.ErrNotFound) {
		return nil
	}
	return err
}
