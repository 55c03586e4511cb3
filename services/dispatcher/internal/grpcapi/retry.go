package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// records is all that the API needs of RETRIES. *retrystream.Streams is one.
type records interface {
	Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*retrystream.Record, error)
	Remove(ctx context.Context, r retrystream.Record) error
}

// letters is all that the API needs of DEADLETTERS. *deadletterstream.Stream is one.
type letters interface {
	Get(ctx context.Context, account postrider.AccountID, delivery postrider.DeliveryID) (*recordv1.DeadLetter, uint64, error)
	Remove(ctx context.Context, sequence uint64) error
}

// events is all that the API needs of EVENTS. *eventstream.Stream is one.
type events interface {
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
	Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error)
}

// beginTries is how often an attempt is prepared anew because its webhook was changed meanwhile.
const beginTries = 5

// SendRetry makes one attempt of a delivery now. It writes no record and is outside of the
// webhook's limits, but not of its state: a pause promises that no attempt begins.
//
// Journal, then remove: the entry says that the delivery is delivered, and only then what waits of
// it is removed, by its sequence. A crash in between leaves a record whose delivery is attempted
// once more; the other order can lose a delivery that nobody knows to be delivered.
func (s *Server) SendRetry(ctx context.Context, req *dispatcherv1.SendRetryRequest) (*dispatcherv1.SendRetryResponse, error) {
	if req.GetAccountId() == "" || req.GetWebhookId() == "" || !postrider.DeliveryID(req.GetDeliveryId()).Valid() {
		return nil, fault.InvalidFields(fault.Violation{Field: "delivery_id", Rule: "must be the id of a delivery, with its account and webhook"})
	}
	free, err := s.slot()
	if err != nil {
		return nil, err
	}
	defer free()
	d, data, err := s.find(ctx, req)
	if err != nil {
		return nil, err
	}
	result, err := s.retry(ctx, d, data)
	if err != nil {
		return nil, err
	}
	if result.Aborted {
		return nil, fmt.Errorf("retry %s: %w", d.GetId(), context.Cause(ctx))
	}
	s.deps.Meters.Attempt(ctx, accountClass(s.deps.Registry, d), result.Outcome, result.Class, "manual", result.End.Sub(result.Start))
	if result.Outcome == postrider.Succeeded {
		result.Record.State = string(postrider.Delivered)
	}
	if err := s.record(ctx, d, result, "retry"); err != nil {
		return nil, err
	}
	if result.Outcome == postrider.Succeeded {
		s.end(ctx, d)
	}
	return &dispatcherv1.SendRetryResponse{Attempt: result.Record}, nil
}

// find looks for the delivery where it waits, then where it lies dead, and then makes it from its
// event as routing did.
func (s *Server) find(ctx context.Context, req *dispatcherv1.SendRetryRequest) (*recordv1.Delivery, []byte, error) {
	account, id := postrider.AccountID(req.GetAccountId()), postrider.DeliveryID(req.GetDeliveryId())
	d, err := s.stored(ctx, account, postrider.WebhookID(req.GetWebhookId()), id)
	if err != nil {
		return nil, nil, storeAway(err)
	}
	if d != nil && !d.GetDataByReference() {
		return d, d.GetData(), nil
	}
	ev, sequence, err := s.event(ctx, account, postrider.EventID(req.GetEventId()), d.GetEventSequence())
	if errors.Is(err, eventstream.ErrNotFound) {
		return nil, nil, fault.New(fault.Precondition, "EVENT_EXPIRED", "the event is not kept any more, and nothing waits of the delivery")
	}
	if err != nil {
		return nil, nil, storeAway(err)
	}
	if d == nil {
		d = deliverystream.Of(ev, sequence, postrider.WebhookID(req.GetWebhookId()), req.GetReplayId())
		d.Progress = &recordv1.Progress{Series: req.GetSeries()}
	}
	return d, ev.GetData(), nil
}

// stored reads the delivery of a record or of a dead letter, nil if there is neither.
func (s *Server) stored(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, id postrider.DeliveryID) (*recordv1.Delivery, error) {
	rec, err := s.deps.Records.Last(ctx, account, webhook, id)
	if err == nil {
		return rec.Retry.GetDelivery(), nil
	}
	if !errors.Is(err, retrystream.ErrGone) {
		return nil, err
	}
	letter, _, err := s.deps.Letters.Get(ctx, account, id)
	if errors.Is(err, deadletterstream.ErrNotFound) || err == nil && letter.GetDelivery().GetWebhookId() != string(webhook) {
		return nil, nil //nolint:nilnil // neither is no error
	}
	return letter.GetDelivery(), err
}

// event reads the event at the sequence, if it is that one, or looks for it.
func (s *Server) event(ctx context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*recordv1.Event, uint64, error) {
	ev, err := s.deps.Events.Get(ctx, account, sequence)
	if err == nil && ev.GetId() == string(id) {
		return ev, sequence, nil
	}
	if err != nil && !errors.Is(err, eventstream.ErrNotFound) {
		return nil, 0, err
	}
	return s.deps.Events.Find(ctx, account, id)
}

// retry makes the attempt, prepared anew if the webhook is changed meanwhile.
func (s *Server) retry(ctx context.Context, d *recordv1.Delivery, data []byte) (*attempt.Result, error) {
	for range beginTries {
		w, err := s.webhook(ctx, d.GetAccountId(), d.GetWebhookId())
		if err != nil {
			return nil, err
		}
		if err := s.mayRetry(d, w); err != nil {
			return nil, err
		}
		in := s.input(d, w, data, attempt.TriggerManual)
		prepared, result, err := s.prepare(ctx, in)
		if err != nil || result != nil {
			return result, err
		}
		if s.deps.Mirror.Fresh() {
			if began, ok := s.deps.Registry.Begin(w, in.Account, d.GetId(), registry.EventMark(d)); ok {
				return s.deps.Maker.Send(ctx, prepared, began), nil
			}
		}
		prepared.Discard()
	}
	return nil, fault.New(fault.Unavailable, "WEBHOOK_CHANGING", "the webhook is being changed all the time")
}

func (s *Server) mayRetry(d *recordv1.Delivery, w *registry.Webhook) error {
	if reason, held := w.Held(); held {
		return fault.New(fault.Precondition, "WEBHOOK_NOT_ACTIVE", "the webhook is "+reason+": no attempt begins until it is active again")
	}
	if _, cancelled := s.deps.Registry.Find(d.GetWebhookId(), d.GetId(), registry.EventMark(d)); cancelled {
		return fault.New(fault.Precondition, "DELIVERY_ENDED", "the delivery was cancelled")
	}
	return nil
}

// end removes what waits of a delivery that was delivered by hand, and its dead letter. What cannot
// be removed now is attempted again, which is told.
func (s *Server) end(ctx context.Context, d *recordv1.Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	err := errors.Join(s.endRecord(ctx, d), s.endLetter(ctx, d))
	if err != nil {
		s.deps.Logger.WarnContext(ctx, "a delivery was delivered by hand, and what waits of it stays",
			slog.String("delivery", d.GetId()), slog.Any("error", err))
	}
}

// endRecord removes the record that stands, and if that was replaced or released meanwhile and
// came back, the next one.
func (s *Server) endRecord(ctx context.Context, d *recordv1.Delivery) error {
	for range beginTries {
		rec, err := s.deps.Records.Last(ctx, postrider.AccountID(d.GetAccountId()), postrider.WebhookID(d.GetWebhookId()), postrider.DeliveryID(d.GetId()))
		if err == nil && rec.Retry.GetDelivery().GetProgress().GetSeries() > d.GetProgress().GetSeries() {
			return nil // it was redriven since: another series, which is not ours to end
		}
		if err == nil {
			if err = s.deps.Records.Remove(ctx, *rec); err == nil {
				return nil
			}
			if errors.Is(err, retrystream.ErrGone) {
				continue
			}
		}
		if errors.Is(err, retrystream.ErrGone) {
			return nil
		}
		return err
	}
	return nil
}

func (s *Server) endLetter(ctx context.Context, d *recordv1.Delivery) error {
	letter, sequence, err := s.deps.Letters.Get(ctx, postrider.AccountID(d.GetAccountId()), postrider.DeliveryID(d.GetId()))
	if err == nil && letter.GetDelivery().GetProgress().GetSeries() <= d.GetProgress().GetSeries() {
		err = s.deps.Letters.Remove(ctx, sequence)
	}
	if errors.Is(err, deadletterstream.ErrNotFound) {
		return nil
	}
	return err
}

func storeAway(err error) error {
	return fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "what is stored of the delivery cannot be read now").WithCause(err)
}
