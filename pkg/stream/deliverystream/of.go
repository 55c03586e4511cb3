package deliverystream

import (
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Of is an event's delivery to one webhook, for the first time or by a replay, as every process that
// makes one makes it: one id, and all that a receiver may see of the event but its data. Data, times
// of routing and progress are the caller's to add. The sequence is the event's in EVENTS.
func Of(ev *recordv1.Event, sequence uint64, webhook postrider.WebhookID, replay string) *recordv1.Delivery {
	return &recordv1.Delivery{
		Id:            string(postrider.DeliveryIDFor(postrider.EventID(ev.GetId()), webhook, replay)),
		AccountId:     ev.GetAccountId(),
		WebhookId:     string(webhook),
		EventId:       ev.GetId(),
		EventSequence: sequence,
		EventType:     ev.GetType(),
		EventTime:     ev.GetTime(),
		ContentType:   ev.GetContentType(),
		EventSource:   ev.GetSource(),
		EventGivenId:  ev.GetGivenId(),
		OrderingKey:   ev.GetOrderingKey(),
		AcceptTime:    ev.GetAcceptTime(),
		ReplayId:      replay,
		Traceparent:   ev.GetTraceparent(),
		Extensions:    ev.GetExtensions(),
	}
}
