// Package registry is the dispatcher's view of webhooks, accounts and cancelled deliveries. It is
// an index that a configuration mirror fills; losing it costs loading it again.
package registry

import (
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
)

// Options are what every webhook is read with.
type Options struct {
	// Opener decrypts the secrets of webhooks and the signing keys of accounts.
	Opener Opener
	// RetryScale multiplies every delay of every retry schedule; 1 in production.
	RetryScale float64
	// DefaultTimeout is the attempt timeout of webhooks that state none.
	DefaultTimeout Timeout
	// DefaultMaxInFlight is the concurrency of webhooks that state none.
	DefaultMaxInFlight int
	// Layout is into how many shards deliveries are split now. Default: one.
	Layout func() postrider.Layout
}

// Opener decrypts a sealed secret. *seal.Sealer is one.
type Opener interface {
	Open(sealed, associated []byte) ([]byte, error)
}

// Registry is safe for concurrent use.
type Registry struct {
	opts Options

	// gate orders beginnings against changes: Begin holds it for reading while it checks, a change
	// for writing. So when a change's handler returns, whatever began before it has begun, and
	// nothing begins on what it replaced.
	gate      sync.RWMutex
	webhooks  map[string]*Webhook
	accounts  map[string]*Account
	cancelled map[string]struct{}
	active    map[string][]int32 // an account's active webhooks, by shard
	shards    int                // that active is counted by
}

// New returns an empty registry.
func New(opts Options) *Registry {
	if opts.Layout == nil {
		opts.Layout = func() postrider.Layout { return postrider.Layout{Shards: 1, Streams: 1} }
	}
	return &Registry{
		opts:      opts,
		shards:    opts.Layout().Shards,
		webhooks:  map[string]*Webhook{},
		accounts:  map[string]*Account{},
		cancelled: map[string]struct{}{},
		active:    map[string][]int32{},
	}
}

// Handlers are what a configuration mirror fills the registry through.
func (r *Registry) Handlers() config.Handlers {
	return config.Handlers{
		Account:        r.putAccount,
		AccountDeleted: r.deleteAccount,
		Webhook:        r.putWebhook,
		WebhookDeleted: r.deleteWebhook,
		Cancelled:      r.markCancelled,
		CancelExpired:  r.unmarkCancelled,
	}
}

func (r *Registry) putAccount(a *recordv1.Account, _ uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.accounts[a.GetAccount().GetId()] = &Account{Config: a.GetAccount(), record: a, opts: &r.opts}
}

func (r *Registry) deleteAccount(id string, _ uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	delete(r.accounts, id)
}

func (r *Registry) putWebhook(w *recordv1.Webhook, revision uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	id := w.GetWebhook().GetId()
	r.count(r.webhooks[id], -1)
	if w.GetWebhook().GetState() == postriderv1.WebhookState_WEBHOOK_STATE_DELETED {
		delete(r.webhooks, id)
		return
	}
	r.webhooks[id] = &Webhook{Config: w.GetWebhook(), Revision: revision, record: w, opts: &r.opts}
	r.count(r.webhooks[id], 1)
}

func (r *Registry) deleteWebhook(_, id string, _ uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.count(r.webhooks[id], -1)
	delete(r.webhooks, id)
}

func (r *Registry) markCancelled(_, delivery string, _ uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.cancelled[delivery] = struct{}{}
}

func (r *Registry) unmarkCancelled(_, delivery string, _ uint64) {
	r.gate.Lock()
	defer r.gate.Unlock()
	delete(r.cancelled, delivery)
}

// Webhook is the webhook as it is configured now, nil if there is none.
func (r *Registry) Webhook(id string) *Webhook {
	r.gate.RLock()
	defer r.gate.RUnlock()
	return r.webhooks[id]
}

// Account is the account as it is configured now, nil if there is none.
func (r *Registry) Account(id string) *Account {
	r.gate.RLock()
	defer r.gate.RUnlock()
	return r.accounts[id]
}

// Find is the webhook of a delivery, nil if there is none, and whether the delivery was cancelled.
// Marks are the ids whose marks end it: its own, and its EventMark.
func (r *Registry) Find(webhook string, marks ...string) (w *Webhook, cancelled bool) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	return r.webhooks[webhook], r.marked(marks)
}

func (r *Registry) marked(marks []string) bool {
	for _, id := range marks {
		if _, ok := r.cancelled[id]; ok {
			return true
		}
	}
	return false
}

// EventMark is the id of the event whose mark ends the delivery, empty if none does: a cancelled
// event takes with it what routing made of it, and not what was replayed or redriven since.
func EventMark(d *recordv1.Delivery) string {
	if d.GetReplayId() != "" || d.GetProgress().GetSeries() > 0 {
		return ""
	}
	return d.GetEventId()
}

// Begin says whether an attempt of the delivery, prepared with w and a, may begin now: they are
// still how webhook and account are configured, and the delivery is not cancelled. Ask last, and
// begin at once: the attempt began at the time that is returned, which is before whatever changes them
// has answered. Marks are as for Find.
func (r *Registry) Begin(w *Webhook, a *Account, marks ...string) (began time.Time, ok bool) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.webhooks[w.Config.GetId()] != w || r.accounts[w.Config.GetAccountId()] != a || w.gone.Load() || r.marked(marks) {
		return time.Time{}, false
	}
	return time.Now(), true
}

// Size is how many webhooks there are.
func (r *Registry) Size() int {
	r.gate.RLock()
	defer r.gate.RUnlock()
	return len(r.webhooks)
}
