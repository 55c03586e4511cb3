package notice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// What the defaults come to: an account is told once a day, and looked after four times a day.
const (
	maxAnnounceEvery = 24 * time.Hour
	looksBetween     = 4
)

// announceEvery is how often an account is told of dead letters at most. It is a part of the lead, or
// what dies a moment after one announcement would expire before the next.
func (p *Publisher) announceEvery() time.Duration { return min(maxAnnounceEvery, p.cfg.Lead/3) }

// lookEvery is how often dead letters are looked at.
func (p *Publisher) lookEvery() time.Duration {
	if p.cfg.Lead <= 0 {
		return maxAnnounceEvery // for nothing: Announce has nobody to tell
	}
	return max(p.announceEvery()/looksBetween, time.Millisecond)
}

// maxByWebhook bounds the webhooks that an announcement names.
const maxByWebhook = 100

// place is where a dead letter stands, whose it is and when it was made.
type place struct {
	sequence uint64
	webhook  string
	died     time.Time
}

// Announce tells accounts of dead letters that will expire, once of each, and at most once a day (a
// third of the lead, if that is shorter).
// Dead letters of operational events are not told of.
func (p *Publisher) Announce(ctx context.Context) error {
	if p.cfg.Lead <= 0 || p.deps.Letters.MaxAge() <= 0 {
		return nil
	}
	cutoff := p.deps.Now().Add(p.cfg.Lead - p.deps.Letters.MaxAge())
	accounts := map[string][]place{}
	err := p.deps.Letters.DiedBefore(ctx, cutoff, func(item deadletterstream.Item) error {
		d := item.Letter.GetDelivery()
		if !match.Reserved(d.GetEventType()) {
			accounts[d.GetAccountId()] = append(accounts[d.GetAccountId()], place{item.Sequence, d.GetWebhookId(), item.Letter.GetTime().AsTime()})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for dead letters that expire: %w", err)
	}
	var errs []error
	for account, places := range accounts {
		if err := p.announce(ctx, account, places); err != nil {
			errs = append(errs, fmt.Errorf("announce dead letters of %s: %w", account, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Publisher) announce(ctx context.Context, account string, places []place) error {
	told, revision, err := p.deps.Store.GetAnnounced(ctx, account)
	if found(err) != nil {
		return err
	}
	now := p.deps.Now()
	if told != nil && now.Sub(told.GetTime().AsTime()) < p.announceEvery() {
		return nil
	}
	d := &data{ByWebhook: map[string]int{}}
	var last uint64
	for _, place := range places {
		if place.sequence <= told.GetLetterSequence() {
			continue
		}
		d.Count++
		last = max(last, place.sequence)
		if _, known := d.ByWebhook[place.webhook]; known || len(d.ByWebhook) < maxByWebhook {
			d.ByWebhook[place.webhook]++
		}
		if expire := place.died.Add(p.deps.Letters.MaxAge()); d.ExpireStart == nil || expire.Before(*d.ExpireStart) {
			d.ExpireStart = &expire
		}
	}
	if d.Count == 0 {
		return nil
	}
	list := p.events(typeExpiring, account, d)
	for _, n := range list {
		n.LetterSequence = last
	}
	if err := p.Prepare(ctx, list); err != nil {
		return err
	}
	err = p.deps.Store.PutAnnounced(ctx, &recordv1.Announced{AccountId: account, LetterSequence: last, Time: timestamppb.New(now)}, revision)
	if errors.Is(err, config.ErrConflict) { // another process tells of it
		p.Withdraw(ctx, list)
		return nil
	}
	if err != nil {
		return err
	}
	p.Send(ctx, list)
	return nil
}
