package config

import (
	"context"
	"errors"

	"github.com/postrider/postrider/pkg/stream"
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
type Store struct{}

// Ensure makes the buckets if they are not there, and opens them.
func Ensure(ctx context.Context, c *stream.Client) (*Store, error) { return nil, errors.ErrUnsupported }

// CreateWebhook stores a new webhook; ErrExists if its id is taken.
func (s *Store) CreateWebhook(ctx context.Context, w *recordv1.Webhook) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// UpdateWebhook replaces the webhook if it is at revision rev.
func (s *Store) UpdateWebhook(ctx context.Context, w *recordv1.Webhook, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// DeleteWebhook deletes the webhook if it is at revision rev, or at any if rev is 0.
func (s *Store) DeleteWebhook(ctx context.Context, account, id string, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// GetWebhook reads a webhook and its revision.
func (s *Store) GetWebhook(ctx context.Context, account, id string) (*recordv1.Webhook, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// ListWebhooks reads an account's webhooks in the order of their ids, those after afterID, at most
// limit; a limit of 0 means all.
func (s *Store) ListWebhooks(ctx context.Context, account, afterID string, limit int) ([]Entry[*recordv1.Webhook], error) {
	return nil, errors.ErrUnsupported
}

// CreateAccount stores a new account; ErrExists if its id is taken.
func (s *Store) CreateAccount(ctx context.Context, a *recordv1.Account) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// UpdateAccount replaces the account if it is at revision rev.
func (s *Store) UpdateAccount(ctx context.Context, a *recordv1.Account, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// DeleteAccount deletes the account if it is at revision rev, or at any if rev is 0. What the
// account owns is its caller's concern.
func (s *Store) DeleteAccount(ctx context.Context, id string, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// GetAccount reads an account and its revision.
func (s *Store) GetAccount(ctx context.Context, id string) (*recordv1.Account, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// ListAccounts reads accounts in the order of their ids, which is the order of their creation to
// the millisecond: those after afterID, at most limit; a limit of 0 means all.
func (s *Store) ListAccounts(ctx context.Context, afterID string, limit int) ([]Entry[*recordv1.Account], error) {
	return nil, errors.ErrUnsupported
}

// CreateEventType stores a new event type; ErrExists if the account has one of that name.
func (s *Store) CreateEventType(ctx context.Context, e *recordv1.EventType) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// UpdateEventType replaces the event type if it is at revision rev.
func (s *Store) UpdateEventType(ctx context.Context, e *recordv1.EventType, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// DeleteEventType deletes the event type if it is at revision rev, or at any if rev is 0.
func (s *Store) DeleteEventType(ctx context.Context, account, name string, rev uint64) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// GetEventType reads an event type and its revision.
func (s *Store) GetEventType(ctx context.Context, account, name string) (*recordv1.EventType, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// ListEventTypes reads an account's event types in the order of their names, those after
// afterName, at most limit; a limit of 0 means all.
func (s *Store) ListEventTypes(ctx context.Context, account, afterName string, limit int) ([]Entry[*recordv1.EventType], error) {
	return nil, errors.ErrUnsupported
}

// CreateKey stores a new key; ErrExists if its id is taken. The account is empty for an admin key.
func (s *Store) CreateKey(ctx context.Context, k *recordv1.Key) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// DeleteKey deletes a key; the account is empty for an admin key.
func (s *Store) DeleteKey(ctx context.Context, account, id string) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// GetKey reads a key and its revision; the account is empty for an admin key.
func (s *Store) GetKey(ctx context.Context, account, id string) (*recordv1.Key, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// ListKeys reads an account's keys (or, with an empty account, the admin keys) in the order of
// their ids, those after afterID, at most limit; a limit of 0 means all.
func (s *Store) ListKeys(ctx context.Context, account, afterID string, limit int) ([]Entry[*recordv1.Key], error) {
	return nil, errors.ErrUnsupported
}

// NextNumber takes the next number of a counter, from 1. A number that was taken and not used is
// never given again.
func (s *Store) NextNumber(ctx context.Context, counter string) (int64, error) {
	return 0, errors.ErrUnsupported
}

// Reserve takes a name that must be unique, such as a subdomain or a webhook's UUID, for owner.
// It fails with ErrExists if another owner has it; for the same owner it may be called again.
func (s *Store) Reserve(ctx context.Context, kind, name, owner string) error {
	return errors.ErrUnsupported
}

// Reserved is the owner of a name, or ErrNotFound.
func (s *Store) Reserved(ctx context.Context, kind, name string) (string, error) {
	return "", errors.ErrUnsupported
}

// Release gives a name back, if owner has it.
func (s *Store) Release(ctx context.Context, kind, name, owner string) error {
	return errors.ErrUnsupported
}

// MarkCancelled marks a delivery as cancelled; the mark goes away after 30 days, which is longer
// than any delivery can wait. Marking twice gives the first revision.
func (s *Store) MarkCancelled(ctx context.Context, account, delivery string) (uint64, error) {
	return 0, errors.ErrUnsupported
}
