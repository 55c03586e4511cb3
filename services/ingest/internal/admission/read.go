package admission

import (
	"context"
	"errors"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Read is an accepted event of the account. A sequence, from its receipt, finds it at once; without
// one, or with one that is not the event's any more, it is searched by its id. Another account's
// event is not found.
func (a *Admission) Read(ctx context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*postriderv1.Event, error) {
	if sequence > 0 {
		ev, err := a.events.Get(ctx, account, sequence)
		switch {
		case err == nil && ev.GetId() == string(id) && ev.GetAccountId() == string(account):
			return public(ev, sequence), nil
		case err != nil && !errors.Is(err, eventstream.ErrNotFound):
			return nil, errRead(err)
		}
	}
	ev, sequence, err := a.events.Find(ctx, account, id)
	switch {
	case errors.Is(err, eventstream.ErrNotFound):
		return nil, errEvent(id)
	case err != nil:
		return nil, errRead(err)
	}
	return public(ev, sequence), nil
}

// public is a stored event as the public API shows it.
func public(ev *recordv1.Event, sequence uint64) *postriderv1.Event {
	return &postriderv1.Event{
		Id: ev.GetId(), AccountId: ev.GetAccountId(), GivenId: ev.GetGivenId(), Source: ev.GetSource(), Type: ev.GetType(),
		Time: ev.GetTime(), Labels: ev.GetLabels(), ContentType: ev.GetContentType(), Data: ev.GetData(),
		OrderingKey: ev.GetOrderingKey(), DeliverAt: ev.GetDeliverAt(), AcceptTime: ev.GetAcceptTime(),
		Sequence: sequence, Extensions: ev.GetExtensions(),
	}
}

// ShowsData reports whether who reads an event sees its data: producers do, and those who may see
// payloads.
func ShowsData(p access.Principal) bool {
	return p.Allows(postrider.ScopePublish) || p.Allows(postrider.ScopePayloads)
}
