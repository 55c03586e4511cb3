package config

import (
	"context"
	"errors"
	"log/slog"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Handlers take what a Mirror learns. A bucket without a handler is not watched. All of them are
// called from one goroutine, for each bucket in the order of revisions; a record that was replaced
// quickly may show its last state only, and nothing is told twice at the same revision.
//
// A handler returns when nothing can begin any more on what it replaced: Barrier.Confirm answers
// its caller as soon as every mirror's handlers have returned. It must not block for long, because
// the mirror is not fresh meanwhile. It must not change the record.
type Handlers struct {
	Account          func(a *recordv1.Account, rev uint64)
	AccountDeleted   func(id string, rev uint64)
	Webhook          func(w *recordv1.Webhook, rev uint64)
	WebhookDeleted   func(account, id string, rev uint64)
	EventType        func(e *recordv1.EventType, rev uint64)
	EventTypeDeleted func(account, name string, rev uint64)
	Key              func(k *recordv1.Key, rev uint64)
	KeyDeleted       func(hash []byte, rev uint64)
	Cancelled        func(account, delivery string, rev uint64)
	// CancelExpired says that a mark's 30 days are over.
	CancelExpired func(account, delivery string, rev uint64)
}

// Mirror keeps a process's view of the configuration.
type Mirror struct{}

// NewMirror makes a mirror of the buckets that h has handlers for. Instance names the process for
// people, such as "router-7f9c"; two mirrors may have the same.
func NewMirror(c *stream.Client, instance string, h Handlers, log *slog.Logger) *Mirror {
	return &Mirror{}
}

// Name is for logs of the mirror's life cycle.
func (m *Mirror) Name() string { return "configuration mirror" }

// Start registers the mirror, loads every watched bucket and returns when the mirror is fresh for
// the first time, or ctx ends.
func (m *Mirror) Start(ctx context.Context) error { return errors.ErrUnsupported }

// Stop ends the mirror, which is never fresh again, and removes its registration.
func (m *Mirror) Stop(ctx context.Context) error { return errors.ErrUnsupported }

// Fresh reports whether work may begin on what the handlers were given. Ask right before
// beginning: the answer is good for the moment.
func (m *Mirror) Fresh() bool { return false }

// WaitFresh returns when the mirror is fresh, or ctx ends, or the mirror stops.
func (m *Mirror) WaitFresh(ctx context.Context) error { return errors.ErrUnsupported }

// Revision is the revision of a watched bucket up to which the handlers were given everything.
func (m *Mirror) Revision(bucket string) uint64 { return 0 }
