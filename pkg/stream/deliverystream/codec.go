package deliverystream

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// deliveriesField is Deliveries.deliveries.
const deliveriesField = 1

// appendDelivery appends a delivery to a message of its account's, after the one that comes before it there;
// nil if it is the first. Deliveries of one event that follow one another are stored as one and the ids of
// the rest, so that a payload is stored once for the webhooks that have a shard in common.
func appendDelivery(b []byte, before, d *recordv1.Delivery) ([]byte, error) {
	if before != nil && sameButWebhook(before, d) {
		d = &recordv1.Delivery{Id: d.GetId(), WebhookId: d.GetWebhookId()}
	}
	b = protowire.AppendTag(b, deliveriesField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(d))) //nolint:gosec // no size is negative
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, d)
	if err != nil {
		return nil, fmt.Errorf("encode delivery %s: %w", d.GetId(), err)
	}
	return b, nil
}

// sameButWebhook says whether two deliveries are one event's, for different webhooks. Both were made by one process a
// moment ago, so it looks whether they share what such deliveries share; that it is not sure about costs some bytes.
func sameButWebhook(a, b *recordv1.Delivery) bool {
	return a.GetEventId() != "" && a.GetEventId() == b.GetEventId() && a.GetReplayId() == b.GetReplayId() &&
		a.GetAcceptTime() == b.GetAcceptTime() && a.GetEventTime() == b.GetEventTime() && equal(a.GetRouteTime(), b.GetRouteTime()) &&
		a.GetDataByReference() == b.GetDataByReference() && sameBytes(a.GetData(), b.GetData()) &&
		a.GetProgress() == nil && b.GetProgress() == nil
}

func equal(a, b *timestamppb.Timestamp) bool {
	return a.GetSeconds() == b.GetSeconds() && a.GetNanos() == b.GetNanos() && (a == nil) == (b == nil)
}

// sameBytes says whether both are the same memory.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Decode reads a message of a delivery stream. The deliveries of an event share what they have in common: only
// their own progress, data and data_by_reference may be set.
func Decode(m *stream.Msg) ([]*recordv1.Delivery, error) { return decode(m.Subject(), m.Data()) }

func decode(subject string, data []byte) ([]*recordv1.Delivery, error) {
	n := countOf(subject)
	if n == 0 { // as it was stored when each message held one delivery
		d := &recordv1.Delivery{}
		if err := proto.Unmarshal(data, d); err != nil {
			return nil, fmt.Errorf("decode delivery: %w", err)
		}
		return []*recordv1.Delivery{d}, nil
	}
	all := &recordv1.Deliveries{}
	if err := proto.Unmarshal(data, all); err != nil {
		return nil, fmt.Errorf("decode deliveries: %w", err)
	}
	if len(all.GetDeliveries()) != n {
		return nil, fmt.Errorf("decode deliveries: %d in a message of %d", len(all.GetDeliveries()), n)
	}
	var whole *recordv1.Delivery
	for i, d := range all.GetDeliveries() {
		if d.GetAccountId() != "" {
			whole = d
			continue
		}
		if whole == nil {
			return nil, fmt.Errorf("decode deliveries: the first, %s, has no account", d.GetId())
		}
		all.Deliveries[i] = forWebhook(whole, d.GetId(), d.GetWebhookId())
	}
	return all.GetDeliveries(), nil
}

// forWebhook is an event's delivery to one more webhook.
func forWebhook(d *recordv1.Delivery, id, webhook string) *recordv1.Delivery {
	return &recordv1.Delivery{
		Id: id, WebhookId: webhook,
		AccountId: d.GetAccountId(), EventId: d.GetEventId(), EventSequence: d.GetEventSequence(), EventType: d.GetEventType(),
		EventTime: d.GetEventTime(), ContentType: d.GetContentType(), EventSource: d.GetEventSource(),
		EventGivenId: d.GetEventGivenId(), OrderingKey: d.GetOrderingKey(), AcceptTime: d.GetAcceptTime(),
		RouteTime: d.GetRouteTime(), ReplayId: d.GetReplayId(), Traceparent: d.GetTraceparent(), Extensions: d.GetExtensions(),
		DataByReference: d.GetDataByReference(), Data: d.GetData(),
	}
}

// countOf is how many deliveries a message on the subject holds; 0 if it is one that holds a single delivery and
// names its webhook, as all did once.
func countOf(subject string) int {
	n, err := strconv.ParseUint(lastToken(subject), 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
