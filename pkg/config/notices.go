package config

import (
	"context"
	"errors"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// GetFailing reads since when every attempt of a webhook has failed; ErrNotFound if one succeeded.
func (s *Store) GetFailing(ctx context.Context, account, webhook string) (*recordv1.Failing, uint64, error) {
	rec, rev, err := s.failing.get(ctx, key(account, webhook))
	return rec, rev, about("read failures of", webhook, err)
}

// CreateFailing notes that a webhook fails; ErrExists if that is known.
func (s *Store) CreateFailing(ctx context.Context, rec *recordv1.Failing) (uint64, error) {
	rev, err := s.failing.create(ctx, key(rec.GetAccountId(), rec.GetWebhookId()), rec)
	return rev, about("note failures of", rec.GetWebhookId(), err)
}

// UpdateFailing replaces what is noted if it is at revision rev.
func (s *Store) UpdateFailing(ctx context.Context, rec *recordv1.Failing, rev uint64) (uint64, error) {
	made, err := s.failing.update(ctx, key(rec.GetAccountId(), rec.GetWebhookId()), rec, rev)
	return made, about("note failures of", rec.GetWebhookId(), err)
}

// DeleteFailing notes that a webhook fails no more, if what is noted is at revision rev.
func (s *Store) DeleteFailing(ctx context.Context, account, webhook string, rev uint64) error {
	_, err := s.failing.remove(ctx, key(account, webhook), rev)
	return about("forget failures of", webhook, err)
}

// PutNotice stores a notice, or replaces the one about the same event.
func (s *Store) PutNotice(ctx context.Context, n *recordv1.Notice) error {
	k := key(n.GetEvent().GetAccountId(), n.GetEvent().GetId())
	for {
		_, rev, err := s.notices.get(ctx, k)
		switch {
		case err == nil:
			_, err = s.notices.put(ctx, k, n, rev)
		case errors.Is(err, ErrNotFound):
			_, err = s.notices.create(ctx, k, n)
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrExists) {
			return about("store notice", n.GetEvent().GetId(), err)
		}
	}
}

// DeleteNotice removes a notice; it is no error if it is gone.
func (s *Store) DeleteNotice(ctx context.Context, account, event string) error {
	_, err := s.notices.remove(ctx, key(account, event), 0)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return about("remove notice", event, err)
}

// ListNotices reads all notices, in no order that means anything, at most limit.
func (s *Store) ListNotices(ctx context.Context, limit int) ([]Entry[*recordv1.Notice], error) {
	out, err := s.notices.list(ctx, "*.*", token(1, 2), "", limit)
	return out, about("list", "notices", err)
}

// GetAnnounced reads how far an account was told of dead letters; ErrNotFound if it never was.
func (s *Store) GetAnnounced(ctx context.Context, account string) (*recordv1.Announced, uint64, error) {
	rec, rev, err := s.announced.get(ctx, key(account))
	return rec, rev, about("read announcements to", account, err)
}

// PutAnnounced stores how far an account was told if the record is at revision rev, 0 if there must
// be none; ErrConflict if somebody else was faster.
func (s *Store) PutAnnounced(ctx context.Context, rec *recordv1.Announced, rev uint64) error {
	_, err := s.announced.put(ctx, key(rec.GetAccountId()), rec, rev)
	return about("note announcements to", rec.GetAccountId(), err)
}
