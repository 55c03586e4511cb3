package config

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Entry is a record of a list with its revision. The revision as text is its etag.
type Entry[T any] struct {
	Record   T
	Revision uint64
}

// Store reads and writes the configuration. Reads ask the bucket's leader, so a process reads
// what any process wrote. A write names the revision that it replaces and fails with ErrConflict
// if that is no longer the current one. Every write returns the revision that it made, which
// Barrier.Confirm waits for.
type Store struct {
	accounts      collection[*recordv1.Account]
	webhooks      collection[*recordv1.Webhook]
	eventTypes    collection[*recordv1.EventType]
	keys          collection[*recordv1.Key]
	names         *bucket.Bucket
	counters      *bucket.Bucket
	cancellations *bucket.Bucket
	idempotency   collection[*recordv1.IdempotentResult]
	jobs          collection[*recordv1.Job]
	failing       collection[*recordv1.Failing]
	notices       collection[*recordv1.Notice]
	announced     collection[*recordv1.Announced]
}

// buckets are the names of all.
func buckets() []string {
	return []string{
		BucketAccounts, BucketWebhooks, BucketEventTypes, BucketKeys, BucketCancellations,
		bucketNames, bucketCounters, bucketMembers, bucketIdempotency, bucketJobs, bucketFailing, bucketNotices, bucketAnnounced,
	}
}

// Inspect says how the buckets stand. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client) ([]stream.Report, error) {
	var all []stream.Report
	for _, name := range buckets() {
		r, err := bucket.Inspect(ctx, c, spec(name))
		if err != nil {
			return all, fmt.Errorf("inspect configuration: %w", err)
		}
		all = append(all, r)
	}
	return all, nil
}

// Ensure makes the buckets if they are not there, and opens them.
func Ensure(ctx context.Context, c *stream.Client) (*Store, error) {
	opened := make(map[string]*bucket.Bucket)
	for _, name := range buckets() {
		b, err := bucket.Ensure(ctx, c, spec(name))
		if err != nil {
			return nil, fmt.Errorf("open configuration: %w", err)
		}
		opened[name] = b
	}
	return &Store{
		accounts:      collection[*recordv1.Account]{opened[BucketAccounts], func() *recordv1.Account { return new(recordv1.Account) }},
		webhooks:      collection[*recordv1.Webhook]{opened[BucketWebhooks], func() *recordv1.Webhook { return new(recordv1.Webhook) }},
		eventTypes:    collection[*recordv1.EventType]{opened[BucketEventTypes], func() *recordv1.EventType { return new(recordv1.EventType) }},
		keys:          collection[*recordv1.Key]{opened[BucketKeys], func() *recordv1.Key { return new(recordv1.Key) }},
		names:         opened[bucketNames],
		counters:      opened[bucketCounters],
		cancellations: opened[BucketCancellations],
		idempotency:   collection[*recordv1.IdempotentResult]{opened[bucketIdempotency], func() *recordv1.IdempotentResult { return new(recordv1.IdempotentResult) }},
		jobs:          collection[*recordv1.Job]{opened[bucketJobs], func() *recordv1.Job { return new(recordv1.Job) }},
		failing:       collection[*recordv1.Failing]{opened[bucketFailing], func() *recordv1.Failing { return new(recordv1.Failing) }},
		notices:       collection[*recordv1.Notice]{opened[bucketNotices], func() *recordv1.Notice { return new(recordv1.Notice) }},
		announced:     collection[*recordv1.Announced]{opened[bucketAnnounced], func() *recordv1.Announced { return new(recordv1.Announced) }},
	}, nil
}

// CreateWebhook stores a new webhook; ErrExists if its id is taken.
func (s *Store) CreateWebhook(ctx context.Context, w *recordv1.Webhook) (uint64, error) {
	id := w.GetWebhook().GetId()
	rev, err := s.webhooks.create(ctx, key(w.GetWebhook().GetAccountId(), id), w)
	return rev, about("create webhook", id, err)
}

// UpdateWebhook replaces the webhook if it is at revision rev.
func (s *Store) UpdateWebhook(ctx context.Context, w *recordv1.Webhook, rev uint64) (uint64, error) {
	id := w.GetWebhook().GetId()
	made, err := s.webhooks.update(ctx, key(w.GetWebhook().GetAccountId(), id), w, rev)
	return made, about("update webhook", id, err)
}

// DeleteWebhook deletes the webhook if it is at revision rev, or at any if rev is 0.
func (s *Store) DeleteWebhook(ctx context.Context, account, id string, rev uint64) (uint64, error) {
	made, err := s.webhooks.remove(ctx, key(account, id), rev)
	return made, about("delete webhook", id, err)
}

// GetWebhook reads a webhook and its revision.
func (s *Store) GetWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, uint64, error) {
	w, rev, err := s.webhooks.get(ctx, key(account, id))
	return w, rev, about("read webhook", id, err)
}

// ListWebhooks reads an account's webhooks in the order of their ids, those after afterID, at most
// limit; a limit of 0 means all.
func (s *Store) ListWebhooks(ctx context.Context, account, afterID string, limit int) ([]Entry[*recordv1.Webhook], error) {
	out, err := s.webhooks.list(ctx, key(account)+".*", token(1, 2), afterID, limit)
	return out, about("list webhooks of", account, err)
}

// CreateAccount stores a new account; ErrExists if its id is taken.
func (s *Store) CreateAccount(ctx context.Context, a *recordv1.Account) (uint64, error) {
	id := a.GetAccount().GetId()
	rev, err := s.accounts.create(ctx, key(id), a)
	return rev, about("create account", id, err)
}

// UpdateAccount replaces the account if it is at revision rev.
func (s *Store) UpdateAccount(ctx context.Context, a *recordv1.Account, rev uint64) (uint64, error) {
	id := a.GetAccount().GetId()
	made, err := s.accounts.update(ctx, key(id), a, rev)
	return made, about("update account", id, err)
}

// DeleteAccount deletes the account if it is at revision rev, or at any if rev is 0. What the
// account owns is its caller's concern.
func (s *Store) DeleteAccount(ctx context.Context, id string, rev uint64) (uint64, error) {
	made, err := s.accounts.remove(ctx, key(id), rev)
	return made, about("delete account", id, err)
}

// GetAccount reads an account and its revision.
func (s *Store) GetAccount(ctx context.Context, id string) (*recordv1.Account, uint64, error) {
	a, rev, err := s.accounts.get(ctx, key(id))
	return a, rev, about("read account", id, err)
}

// ListAccounts reads accounts in the order of their ids, which is the order of their creation to
// the millisecond: those after afterID, at most limit; a limit of 0 means all.
func (s *Store) ListAccounts(ctx context.Context, afterID string, limit int) ([]Entry[*recordv1.Account], error) {
	out, err := s.accounts.list(ctx, "*", token(0, 1), afterID, limit)
	return out, about("list", "accounts", err)
}

// CreateEventType stores a new event type; ErrExists if the account has one of that name.
func (s *Store) CreateEventType(ctx context.Context, e *recordv1.EventType) (uint64, error) {
	name := e.GetEventType().GetName()
	rev, err := s.eventTypes.create(ctx, typeKey(e.GetEventType().GetAccountId(), name), e)
	return rev, about("create event type", name, err)
}

// UpdateEventType replaces the event type if it is at revision rev.
func (s *Store) UpdateEventType(ctx context.Context, e *recordv1.EventType, rev uint64) (uint64, error) {
	name := e.GetEventType().GetName()
	made, err := s.eventTypes.update(ctx, typeKey(e.GetEventType().GetAccountId(), name), e, rev)
	return made, about("update event type", name, err)
}

// DeleteEventType deletes the event type if it is at revision rev, or at any if rev is 0.
func (s *Store) DeleteEventType(ctx context.Context, account, name string, rev uint64) (uint64, error) {
	made, err := s.eventTypes.remove(ctx, typeKey(account, name), rev)
	return made, about("delete event type", name, err)
}

// GetEventType reads an event type and its revision.
func (s *Store) GetEventType(ctx context.Context, account, name string) (*recordv1.EventType, uint64, error) {
	e, rev, err := s.eventTypes.get(ctx, typeKey(account, name))
	return e, rev, about("read event type", name, err)
}

// ListEventTypes reads an account's event types in the order of their names, those after
// afterName, at most limit; a limit of 0 means all.
func (s *Store) ListEventTypes(ctx context.Context, account, afterName string, limit int) ([]Entry[*recordv1.EventType], error) {
	order := func(k string) (string, bool) {
		_, name, ok := splitTypeKey(k)
		return name, ok
	}
	out, err := s.eventTypes.list(ctx, key(account)+".>", order, afterName, limit)
	return out, about("list event types of", account, err)
}

// CreateKey stores a new key. The account is empty for an admin key.
func (s *Store) CreateKey(ctx context.Context, k *recordv1.Key) (uint64, error) {
	id := k.GetKey().GetId()
	rev, err := s.keys.create(ctx, key(keyOwner(k.GetKey().GetAccountId()), id, hex.EncodeToString(k.GetHash())), k)
	return rev, about("create key", id, err)
}

// UpdateKey stores a key in place of revision rev; its account, its id and its hash stay.
func (s *Store) UpdateKey(ctx context.Context, k *recordv1.Key, rev uint64) (uint64, error) {
	id := k.GetKey().GetId()
	made, err := s.keys.update(ctx, key(keyOwner(k.GetKey().GetAccountId()), id, hex.EncodeToString(k.GetHash())), k, rev)
	return made, about("update key", id, err)
}

// DeleteKey deletes a key; the account is empty for an admin key.
func (s *Store) DeleteKey(ctx context.Context, account, id string) (uint64, error) {
	k, _, err := s.GetKey(ctx, account, id)
	if err != nil {
		return 0, err
	}
	rev, err := s.keys.remove(ctx, key(keyOwner(account), id, hex.EncodeToString(k.GetHash())), 0)
	return rev, about("delete key", id, err)
}

// GetKey reads a key and its revision; the account is empty for an admin key.
func (s *Store) GetKey(ctx context.Context, account, id string) (*recordv1.Key, uint64, error) {
	out, err := s.keys.list(ctx, key(keyOwner(account), id)+".*", token(1, 3), "", 1)
	switch {
	case err != nil:
		return nil, 0, about("read key", id, err)
	case len(out) == 0:
		return nil, 0, about("read key", id, ErrNotFound)
	}
	return out[0].Record, out[0].Revision, nil
}

// ListKeys reads an account's keys (or, with an empty account, the admin keys) in the order of
// their ids, those after afterID, at most limit; a limit of 0 means all.
func (s *Store) ListKeys(ctx context.Context, account, afterID string, limit int) ([]Entry[*recordv1.Key], error) {
	out, err := s.keys.list(ctx, key(keyOwner(account))+".*.*", token(1, 3), afterID, limit)
	return out, about("list keys of", keyOwner(account), err)
}

// token orders keys of n tokens by token i.
func token(i, n int) func(string) (string, bool) {
	return func(k string) (string, bool) {
		parts, ok := splitKey(k, n)
		if !ok {
			return "", false
		}
		return parts[i], true
	}
}

// about says which operation on what failed, and leaves the kind of the error as it is.
func about(operation, what string, err error) error {
	if err == nil {
		return nil
	}
	// An id that is not one may hold anything; it is not for logs.
	if len(what) > 128 || strings.ContainsAny(what, "\r\n\x00") {
		what = "(malformed)"
	}
	return fmt.Errorf("%s %s: %w", operation, what, err)
}

// MarkCancelled marks a delivery as cancelled; the mark goes away after 30 days, which is longer
// than any delivery can wait. Marking twice gives the first revision.
func (s *Store) MarkCancelled(ctx context.Context, account, delivery string) (uint64, error) {
	k := key(account, delivery)
	for {
		e, err := s.cancellations.Get(ctx, k)
		switch {
		case err == nil:
			return e.Revision, nil
		case !errors.Is(err, bucket.ErrNotFound):
			return 0, about("cancel delivery", delivery, translate(err))
		}
		rev, err := s.cancellations.Put(ctx, k, nil, e.Revision)
		if errors.Is(err, bucket.ErrConflict) {
			continue // somebody else cancelled it: theirs is the mark
		}
		return rev, about("cancel delivery", delivery, translate(err))
	}
}
