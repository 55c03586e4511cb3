package registry

import (
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/dispatcher/internal/limit"
)

// Limits are limits on attempts over several webhooks. Zero means none.
type Limits struct {
	// MaxInFlight is the most attempts at once.
	MaxInFlight int
	// Rate is attempts a second.
	Rate float64
}

// AccountLimits is the part of an account's limits that belongs to the holder of some shards. Every
// dispatcher reckons it from the same configuration: by how many of the account's active webhooks
// are on the shards that it holds. See limit.Share for what the parts add up to.
func (r *Registry) AccountLimits(account string, holds func(shard int) bool) Limits {
	r.gate.RLock()
	if now := r.opts.Layout().Shards; now != r.shards {
		r.gate.RUnlock()
		r.recount(now)
		r.gate.RLock()
	}
	defer r.gate.RUnlock()
	a := r.accounts[account].GetConfig()
	var l Limits
	if n := a.GetMaxInFlight(); n > 0 {
		l.MaxInFlight = limit.Share(int(n), r.active[account], holds)
	}
	if rate := a.GetRateLimit(); rate > 0 {
		l.Rate = limit.ShareRate(rate, r.active[account], holds)
	}
	return l
}

// recount counts every account's active webhooks by another number of shards.
func (r *Registry) recount(shards int) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.shards = shards
	clear(r.active)
	for _, w := range r.webhooks {
		r.count(w, 1)
	}
}

// count adds n to the webhooks of the account that are active on the webhook's shard, if this one
// is. The gate is held for writing.
func (r *Registry) count(w *Webhook, n int32) {
	if w == nil || w.Config.GetState() != postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
		return
	}
	account := w.Config.GetAccountId()
	active := r.active[account]
	if active == nil {
		active = make([]int32, r.shards)
		r.active[account] = active
	}
	active[postrider.ShardOf(postrider.WebhookID(w.Config.GetId()), r.shards)] += n
	for _, left := range active {
		if left != 0 {
			return
		}
	}
	delete(r.active, account)
}
