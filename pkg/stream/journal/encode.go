package journal

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Every delivery writes an entry of its routing and one of its attempt, so these two are encoded by hand, in one
// pass: proto.Marshal measures each message before it writes it, and goes through maps by reflection. The test fills
// every field that the messages have, so that one which is not written here is found.

var errNotUTF8 = errors.New("a text is not valid UTF-8")

// appendEntry appends an entry as proto.Marshal encodes it, but for the order of its fields.
func appendEntry(b []byte, e *recordv1.JournalEntry) ([]byte, error) {
	w := &encoder{b: b}
	switch what := e.GetWhat().(type) {
	case *recordv1.JournalEntry_Routed:
		w.entry(e)
		at := w.open(10)
		w.routed(what.Routed)
		w.close(at)
	case *recordv1.JournalEntry_Attempted:
		w.entry(e)
		at := w.open(11)
		w.attempted(what.Attempted)
		w.close(at)
	default:
		return proto.MarshalOptions{}.MarshalAppend(b, e)
	}
	if w.notText {
		return b, errNotUTF8
	}
	return w.b, nil
}

// entry writes what all entries have.
func (w *encoder) entry(e *recordv1.JournalEntry) {
	w.time(1, e.GetTime())
	w.text(2, e.GetAccountId())
	w.text(3, e.GetEventId())
	w.text(4, e.GetDeliveryId())
	w.text(5, e.GetWebhookId())
	w.text(6, e.GetEventType())
	w.number(7, e.GetDeliverySequence())
	w.number(8, e.GetDueSequence())
	w.number(9, signed(e.GetSeries()))
	w.time(20, e.GetCreateTime())
	w.unknown(e.ProtoReflect())
}

func (w *encoder) routed(r *recordv1.Routed) {
	for _, d := range r.GetDeliveries() {
		at := w.open(1)
		w.text(1, d.GetDeliveryId())
		w.text(2, d.GetWebhookId())
		w.unknown(d.ProtoReflect())
		w.close(at)
	}
	for _, u := range r.GetUnmatched() {
		at := w.open(2)
		w.text(1, u.GetWebhookId())
		w.text(2, u.GetReason())
		w.text(3, u.GetDetail())
		w.unknown(u.ProtoReflect())
		w.close(at)
	}
	w.number(3, signed(r.GetUnmatchedTotal()))
	w.number(4, r.GetEventSequence())
	w.number(5, signed(r.GetMatchedTotal()))
	w.time(6, r.GetAcceptTime())
	w.text(7, r.GetReplayId())
	w.text(8, r.GetDedupKey())
	w.text(9, r.GetTraceparent())
	w.number(10, signed(r.GetDedupWindow()))
	w.bytes(11, r.GetOtherTypes())
	w.unknown(r.ProtoReflect())
}

func (w *encoder) attempted(a *recordv1.Attempted) {
	w.text(1, a.GetAttemptId())
	w.number(2, signed(a.GetNumber()))
	w.text(3, a.GetOutcome())
	w.text(4, a.GetErrorClass())
	w.text(5, a.GetErrorMessage())
	w.time(6, a.GetStartTime())
	w.number(7, uint64(a.GetDurationUs())) //nolint:gosec // the same bits
	w.text(8, a.GetRequestMethod())
	w.text(9, a.GetRequestUrl())
	w.texts(10, a.GetRequestHeaders())
	w.number(11, signed(a.GetStatusCode()))
	w.texts(12, a.GetResponseHeaders())
	w.bytes(13, a.GetResponseBody())
	w.yes(14, a.GetResponseBodyTruncated())
	w.text(15, a.GetTrigger())
	w.text(16, a.GetState())
	w.time(17, a.GetNextAttemptTime())
	w.text(18, a.GetReason())
	w.number(19, signed(a.GetSeries()))
	if t := a.GetTimings(); t != nil {
		at := w.open(20)
		w.timings(t)
		w.close(at)
	}
	w.bytes(21, a.GetRequestBody())
	w.yes(22, a.GetRequestBodyTruncated())
	w.yes(23, a.GetRequestBodyIsData())
	w.number(24, uint64(a.GetRequestBodySize())) //nolint:gosec // the same bits
	w.unknown(a.ProtoReflect())
}

func (w *encoder) timings(t *recordv1.Timings) {
	for i, us := range [...]int64{t.GetDnsUs(), t.GetConnectUs(), t.GetTlsUs(), t.GetFirstByteUs()} {
		w.number(protowire.Number(i+1), uint64(us)) //nolint:gosec // the same bits
	}
	w.yes(5, t.GetReused())
	w.text(6, t.GetRemoteAddress())
	w.unknown(t.ProtoReflect())
}

// encoder writes fields, leaving out those that have their default.
type encoder struct {
	b       []byte
	notText bool
}

// signed is a number of 32 bits or an enum as the wire has it: extended to 64 bits.
func signed[T ~int32](v T) uint64 { return uint64(int64(v)) } //nolint:gosec // the same bits

func (w *encoder) number(field protowire.Number, v uint64) {
	if v != 0 {
		w.b = protowire.AppendVarint(protowire.AppendTag(w.b, field, protowire.VarintType), v)
	}
}

func (w *encoder) yes(field protowire.Number, v bool) { w.number(field, protowire.EncodeBool(v)) }

func (w *encoder) text(field protowire.Number, s string) {
	if s != "" {
		w.always(field, s)
	}
}

// always writes a text that may be empty.
func (w *encoder) always(field protowire.Number, s string) {
	w.notText = w.notText || !utf8.ValidString(s)
	w.b = protowire.AppendString(protowire.AppendTag(w.b, field, protowire.BytesType), s)
}

func (w *encoder) bytes(field protowire.Number, v []byte) {
	if len(v) > 0 {
		w.b = protowire.AppendBytes(protowire.AppendTag(w.b, field, protowire.BytesType), v)
	}
}

func (w *encoder) texts(field protowire.Number, m map[string]string) {
	for k, v := range m {
		at := w.open(field)
		w.always(1, k)
		w.always(2, v)
		w.close(at)
	}
}

func (w *encoder) time(field protowire.Number, t *timestamppb.Timestamp) {
	if t == nil {
		return
	}
	at := w.open(field)
	w.number(1, uint64(t.GetSeconds())) //nolint:gosec // the same bits
	w.number(2, signed(t.GetNanos()))
	w.unknown(t.ProtoReflect())
	w.close(at)
}

// unknown writes what a later version wrote.
func (w *encoder) unknown(m protoreflect.Message) { w.b = append(w.b, m.GetUnknown()...) }

// open begins a message within the message, with room for the shortest length.
func (w *encoder) open(field protowire.Number) (at int) {
	w.b = append(protowire.AppendTag(w.b, field, protowire.BytesType), 0)
	return len(w.b)
}

// close ends it, now that its length is known.
func (w *encoder) close(at int) {
	n := len(w.b) - at
	if more := protowire.SizeVarint(uint64(n)) - 1; more > 0 { //nolint:gosec // a length
		w.b = append(w.b, make([]byte, more)...)
		copy(w.b[at+more:], w.b[at:at+n])
	}
	protowire.AppendVarint(w.b[:at-1], uint64(n)) //nolint:gosec // a length
}
