package journal

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// fill sets fields of a message, each with the chance, to values of all sizes; of a choice, the last that it comes by.
func fill(r *rand.Rand, m protoreflect.Message, chance float64, depth int) {
	fields := m.Descriptor().Fields()
	for _, i := range r.Perm(fields.Len()) {
		f := fields.Get(i)
		if r.Float64() > chance || depth > 4 {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(4) {
				m.Mutable(f).Map().Set(value(r, f.MapKey()).MapKey(), value(r, f.MapValue()))
			}
		case f.IsList():
			for range r.IntN(4) {
				fill(r, m.Mutable(f).List().AppendMutable().Message(), chance, depth+1)
			}
		case f.Message() != nil:
			fill(r, m.Mutable(f).Message(), chance, depth+1)
		default:
			m.Set(f, value(r, f))
		}
	}
	if r.IntN(8) == 0 {
		m.SetUnknown(append([]byte{0xfa, 0x7f, 3}, "new"...)) // field 2047
	}
}

func value(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	size := []int{0, 1, 7, 120, 130, 20_000}[r.IntN(6)]
	switch f.Kind() { //nolint:exhaustive // what no entry has panics
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.Repeat("ä", size))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, size))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(5)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32([]int32{0, 1, -1, math.MaxInt32, math.MinInt32}[r.IntN(5)])
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64([]int64{0, 1, -1, math.MaxInt64, math.MinInt64}[r.IntN(5)])
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64([]uint64{0, 1, math.MaxUint64}[r.IntN(3)])
	default:
		panic("a kind of field that no entry had: " + f.Kind().String())
	}
}

// What is encoded is the entry, whatever it holds, and nothing else is touched.
func TestEntriesAreEncodedWhole(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		e := &recordv1.JournalEntry{}
		fill(r, e.ProtoReflect(), r.Float64(), 0)
		b, err := appendEntry([]byte("before"), e)
		require.NoError(t, err)
		require.Equal(t, "before", string(b[:6]))
		got := &recordv1.JournalEntry{}
		require.NoError(t, proto.Unmarshal(b[6:], got))
		require.True(t, proto.Equal(e, got), "%s\n%s", e, got)
	}
}

// A text that is not one would make the whole message unreadable.
func TestAnEntryWithoutValidTextIsRefused(t *testing.T) {
	t.Parallel()
	for _, e := range []*recordv1.JournalEntry{
		{AccountId: "\xff", What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{}}},
		{What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{RequestHeaders: map[string]string{"a": "\xff"}}}},
		{What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{Deliveries: []*recordv1.RoutedDelivery{{WebhookId: "\xff"}}}}},
		{What: &recordv1.JournalEntry_Waiting{Waiting: &recordv1.Waiting{Reason: "\xff"}}},
	} {
		_, err := appendEntry(nil, e)
		require.Error(t, err)
		_, err = proto.Marshal(e)
		require.Error(t, err, "proto.Marshal refuses it too")
	}
}

func BenchmarkEncode(b *testing.B) {
	e := &recordv1.JournalEntry{
		AccountId: "acc_01KBD7GZ8YRPV6M2N4T5W6X7Y8", EventId: "evt_01KBD7GZ8YRPV6M2N4T5W6X7Y8", DeliveryId: "dlv_01KBD7GZ8YRPV6M2N4T5W6X7Y8",
		WebhookId: "wh_01KBD7GZ8YRPV6M2N4T5W6X7Y8", EventType: "order.created", DeliverySequence: 1 << 20,
		What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
			AttemptId: "att_01KBD7GZ8YRPV6M2N4T5W6X7Y8", Number: 1, Outcome: "succeeded", DurationUs: 1500, RequestMethod: "POST",
			RequestUrl: "https://hooks.example.com/a", StatusCode: 200, Trigger: "schedule", State: "delivered",
			RequestHeaders: map[string]string{
				"Webhook-Id": "evt_01KBD7GZ8YRPV6M2N4T5W6X7Y8", "Webhook-Timestamp": "1764547200", "Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
				"Content-Type": "application/json", "User-Agent": "Postrider/1.0", "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			},
			ResponseHeaders: map[string]string{"Content-Length": "0", "Date": "Sat, 21 Nov 2026 00:00:00 GMT"},
			Timings:         &recordv1.Timings{FirstByteUs: 1400, Reused: true, RemoteAddress: "192.0.2.10:443"},
		}},
	}
	for name, encode := range map[string]func([]byte) ([]byte, error){
		"by hand":  func(buf []byte) ([]byte, error) { return appendEntry(buf, e) },
		"by proto": func(buf []byte) ([]byte, error) { return proto.MarshalOptions{}.MarshalAppend(buf, e) },
	} {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = encode(buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
