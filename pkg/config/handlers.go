package config

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/stream/bucket"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Handlers take what a Mirror learns. A bucket without a handler is not watched. All of them are
// called from one goroutine, for each bucket in the order of revisions. A record that was replaced
// quickly may show its last state only. Nothing is told twice at the same revision, except that
// everything is told again when the bucket turns out to be another one (a restore).
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

// sink is what one bucket's entries are given to.
type sink struct {
	bucket string
	put    func(e bucket.Entry) error
	gone   func(key string, rev uint64) error
}

// sinks are those of the buckets that have a handler.
func (h Handlers) sinks() []sink {
	var out []sink
	add := func(wanted bool, s sink) {
		if wanted {
			out = append(out, s)
		}
	}
	add(h.Account != nil || h.AccountDeleted != nil, sink{BucketAccounts, decoded(h.Account), h.accountGone})
	add(h.Webhook != nil || h.WebhookDeleted != nil, sink{BucketWebhooks, decoded(h.Webhook), h.webhookGone})
	add(h.EventType != nil || h.EventTypeDeleted != nil, sink{BucketEventTypes, decoded(h.EventType), h.eventTypeGone})
	add(h.Key != nil || h.KeyDeleted != nil, sink{BucketKeys, decoded(h.Key), h.keyGone})
	add(h.Cancelled != nil || h.CancelExpired != nil, sink{BucketCancellations, h.cancelled, h.cancelGone})
	return out
}

// decoded gives an entry's record to a handler, if there is one.
func decoded[M any, T interface {
	*M
	proto.Message
}](handle func(T, uint64)) func(bucket.Entry) error {
	return func(e bucket.Entry) error {
		if handle == nil {
			return nil
		}
		rec := T(new(M))
		if err := proto.Unmarshal(e.Value, rec); err != nil {
			return fmt.Errorf("decode record: %w", err)
		}
		handle(rec, e.Revision)
		return nil
	}
}

func (h Handlers) accountGone(k string, rev uint64) error {
	parts, ok := splitKey(k, 1)
	if !ok {
		return errForeignKey
	}
	if h.AccountDeleted != nil {
		h.AccountDeleted(parts[0], rev)
	}
	return nil
}

func (h Handlers) webhookGone(k string, rev uint64) error {
	parts, ok := splitKey(k, 2)
	if !ok {
		return errForeignKey
	}
	if h.WebhookDeleted != nil {
		h.WebhookDeleted(parts[0], parts[1], rev)
	}
	return nil
}

func (h Handlers) eventTypeGone(k string, rev uint64) error {
	account, name, ok := splitTypeKey(k)
	if !ok {
		return errForeignKey
	}
	if h.EventTypeDeleted != nil {
		h.EventTypeDeleted(account, name, rev)
	}
	return nil
}

func (h Handlers) keyGone(k string, rev uint64) error {
	hash, ok := hashOfKey(k)
	if !ok {
		return errForeignKey
	}
	if h.KeyDeleted != nil {
		h.KeyDeleted(hash, rev)
	}
	return nil
}

func (h Handlers) cancelled(e bucket.Entry) error {
	parts, ok := splitKey(e.Key, 2)
	if !ok {
		return errForeignKey
	}
	if h.Cancelled != nil {
		h.Cancelled(parts[0], parts[1], e.Revision)
	}
	return nil
}

func (h Handlers) cancelGone(k string, rev uint64) error {
	parts, ok := splitKey(k, 2)
	if !ok {
		return errForeignKey
	}
	if h.CancelExpired != nil {
		h.CancelExpired(parts[0], parts[1], rev)
	}
	return nil
}
