// Package webhooks is what the scheduler knows of webhooks: whether they may be delivered to,
// and how fast. It is a mirror of the configuration and may be behind it by a moment: nothing
// here decides whether an attempt is made, the dispatcher does.
package webhooks

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Webhook is one webhook at one revision.
type Webhook struct {
	Account  postrider.AccountID
	ID       postrider.WebhookID
	State    postrider.WebhookState
	Revision uint64
	Rate     float64 // attempts per second; 0 for no limit

	since time.Time // when the state last changed
}

// Active reports whether deliveries may be attempted.
func (w Webhook) Active() bool { return w.State == postrider.WebhookActive }

// Registry holds all webhooks.
type Registry struct {
	changed func(Webhook)

	mu       sync.Mutex
	webhooks map[postrider.WebhookID]Webhook
	news     chan struct{} // closed with the next change
}

// NewRegistry returns an empty registry. Changed is told of each webhook whose state is another
// than before, or was another in between; it must not block. It is not told of webhooks that
// were not known before, such as all of them at the start.
func NewRegistry(changed func(Webhook)) *Registry {
	return &Registry{
		changed:  changed,
		webhooks: make(map[postrider.WebhookID]Webhook),
		news:     make(chan struct{}),
	}
}

// Put takes a webhook as the configuration has it.
func (r *Registry) Put(rec *recordv1.Webhook, revision uint64) {
	w := rec.GetWebhook()
	r.set(Webhook{
		Account:  postrider.AccountID(w.GetAccountId()),
		ID:       postrider.WebhookID(w.GetId()),
		State:    state(w.GetState()),
		Revision: revision,
		Rate:     w.GetRateLimit(),
		since:    w.GetStateTime().AsTime(),
	})
}

// Delete notes that a webhook was deleted. It stays known as such until Forget.
func (r *Registry) Delete(account, id string, revision uint64) {
	r.set(Webhook{
		Account:  postrider.AccountID(account),
		ID:       postrider.WebhookID(id),
		State:    postrider.WebhookDeleted,
		Revision: revision,
	})
}

// state maps the stored state. What is not known, because a later version wrote it, is not
// delivered to, so what waits for it is kept.
func state(s postriderv1.WebhookState) postrider.WebhookState {
	switch s {
	case postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE:
		return postrider.WebhookActive
	case postriderv1.WebhookState_WEBHOOK_STATE_PAUSED:
		return postrider.WebhookPaused
	case postriderv1.WebhookState_WEBHOOK_STATE_DELETED:
		return postrider.WebhookDeleted
	case postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, postriderv1.WebhookState_WEBHOOK_STATE_UNSPECIFIED:
		return postrider.WebhookDisabled
	}
	return postrider.WebhookDisabled
}

func (r *Registry) set(w Webhook) {
	r.mu.Lock()
	before, known := r.webhooks[w.ID]
	if known && before.Revision > w.Revision {
		r.mu.Unlock()
		return
	}
	r.webhooks[w.ID] = w
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()
	// A pause and a resume that came as one change leave the state as it was, but not its time.
	if known && (before.State != w.State || !before.since.Equal(w.since)) || w.State == postrider.WebhookDeleted {
		r.changed(w)
	}
}

// Lookup returns a webhook; ok is false if it is not known.
func (r *Registry) Lookup(id postrider.WebhookID) (w Webhook, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok = r.webhooks[id]
	return w, ok
}

// Current reports whether a webhook still is in the state it was read in, with no other in
// between.
func (r *Registry) Current(w Webhook) bool {
	now, ok := r.Lookup(w.ID)
	return ok && now.State == w.State && now.since.Equal(w.since)
}

// Forget drops a deleted webhook for which nothing waits any more.
func (r *Registry) Forget(id postrider.WebhookID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.webhooks[id].State == postrider.WebhookDeleted {
		delete(r.webhooks, id)
	}
}

// Await returns the webhook once its revision is at least the given one, or what is known of
// it when the context ends; ok is false if that is nothing.
func (r *Registry) Await(ctx context.Context, id postrider.WebhookID, revision uint64) (w Webhook, ok bool) {
	for {
		r.mu.Lock()
		w, ok = r.webhooks[id]
		news := r.news
		r.mu.Unlock()
		if ok && w.Revision >= revision {
			return w, true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return w, ok
		}
	}
}
