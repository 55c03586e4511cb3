package logstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// What is read by hand is what the generated code reads, and what it does not know changes nothing.
func TestABatchSaysWhatItsMessageSays(t *testing.T) {
	t.Parallel()
	when := func(n int) *timestamppb.Timestamp {
		return timestamppb.New(time.UnixMicro(1_700_000_000_000_000 + int64(n)))
	}
	at := &recordv1.Attempted{
		AttemptId: "att_1", Number: 3, Outcome: "retryable", ErrorClass: "http_status", ErrorMessage: "no", StartTime: when(1), DurationUs: 1500,
		RequestMethod: "POST", RequestUrl: "https://a.example", RequestHeaders: map[string]string{"A": "b"}, StatusCode: 503,
		ResponseHeaders: map[string]string{"C": "d"}, ResponseBody: []byte{0xff, 0}, Trigger: "schedule", State: "waiting",
		NextAttemptTime: when(2), Reason: "because", Series: 2, Timings: &recordv1.Timings{DnsUs: 1}, RequestBody: []byte("x"), RequestBodySize: 4,
	}
	routed := &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: "dlv_2", WebhookId: "wh_2"}, {DeliveryId: "dlv_3", WebhookId: "wh_3"}},
		Unmatched:  []*recordv1.Unmatched{{WebhookId: "wh_4", Reason: "filter", Detail: "x"}}, UnmatchedTotal: 7, EventSequence: 9,
		MatchedTotal: 2, AcceptTime: when(3), DedupKey: "key:order-1", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		DedupWindow: postriderv1.DedupWindow_DEDUP_WINDOW_FULL, OtherTypes: []byte("0123456789abcdef"),
	}
	attempted := &recordv1.JournalEntry{
		Time: when(4), AccountId: "acc_1", EventId: "evt_1", DeliveryId: "dlv_1", WebhookId: "wh_1", EventType: "a.b", DeliverySequence: 5,
		DueSequence: 6, Series: 2, CreateTime: when(-5), What: &recordv1.JournalEntry_Attempted{Attempted: at},
	}
	// A later version says more, of whatever kind.
	unknown := protowire.AppendFixed64(protowire.AppendTag(nil, 99, protowire.Fixed64Type), 1)
	unknown = protowire.AppendString(protowire.AppendTag(unknown, 98, protowire.BytesType), "new")
	attempted.ProtoReflect().SetUnknown(unknown)
	at.ProtoReflect().SetUnknown(unknown)
	b, err := batchOf([]*recordv1.JournalEntry{attempted, {
		Time: when(6), AccountId: "acc_1", EventId: "evt_1", EventType: "a.b", What: &recordv1.JournalEntry_Routed{Routed: routed},
	}, {
		Time: when(7), AccountId: "acc_1", EventId: "evt_1", DeliveryId: "dlv_2", What: &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{DueTime: when(8), Reason: "rate"}},
	}, {
		Time: when(9), AccountId: "acc_1", EventId: "evt_1", DeliveryId: "dlv_3", What: &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}},
	}})
	require.NoError(t, err)
	require.Equal(t, 4, b.Entries())
	const zero = 1_700_000_000_000_000

	f := b.facts.deliveries["dlv_1"]
	require.Equal(t, &fact{
		account: "acc_1", event: "evt_1", eventType: "a.b", deliveryID: "dlv_1", webhookID: "wh_1", create: zero - 5, series: 2, state: "waiting",
		stateTime: zero + 4, reason: "because", next: zero + 2, attempts: 3, attemptTime: zero + 1, status: 503, class: "http_status", outcome: "retryable",
	}, f)
	require.Len(t, b.facts.attempts, 1)
	a := b.facts.attempts[0]
	kept := &recordv1.Attempted{}
	require.NoError(t, proto.Unmarshal(a.record, kept))
	require.True(t, proto.Equal(at, kept))
	a.record = nil
	require.Equal(t, attemptFact{
		id: "att_1", delivery: "dlv_1", account: "acc_1", event: "evt_1", start: zero + 1, webhook: "wh_1", bucket: bucketOf(1500),
	}, a)

	e := b.facts.events["evt_1"]
	said := &recordv1.Routed{}
	require.NoError(t, proto.Unmarshal(e.record, said))
	require.True(t, proto.Equal(&recordv1.Routed{
		Unmatched: routed.GetUnmatched(), OtherTypes: routed.GetOtherTypes(), DedupKey: routed.GetDedupKey(), Traceparent: routed.GetTraceparent(), DedupWindow: routed.GetDedupWindow(),
	}, said))
	e.record = nil
	require.Equal(t, &eventFact{
		id: "evt_1", account: "acc_1", eventType: "a.b", sequence: 9, accept: zero + 3, route: zero + 6, matched: 2, unmatched: 7,
		key: "order-1", trace: "0af7651916cd43dd8448eb211c80319c",
	}, e)
	require.Equal(t, []moveFact{
		{delivery: "dlv_2", account: "acc_1", event: "evt_1", time: zero + 7, state: "waiting", reason: "rate", next: zero + 8},
		{delivery: "dlv_3", account: "acc_1", event: "evt_1", time: zero + 9, state: "dead", reason: "expired"},
	}, b.facts.moves)
}

func TestABatchTakesNoMessageThatCannotBeRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		_ = NewBatch().Add(rapid.SliceOf(rapid.Byte()).Draw(rt, "message")) // it does not panic
	})
	raw, err := proto.Marshal(&recordv1.JournalBatch{Entries: []*recordv1.JournalEntry{{AccountId: "acc_1", DeliveryId: "dlv_1", What: &recordv1.JournalEntry_Held{Held: &recordv1.Held{}}}}})
	require.NoError(t, err)
	require.NoError(t, NewBatch().Add(raw))
	require.Error(t, NewBatch().Add(raw[:len(raw)-1]), "cut off")
	raw[len("\x0a\x00\x12\x00")] = 0xff
	require.ErrorIs(t, NewBatch().Add(raw), errText)
}
