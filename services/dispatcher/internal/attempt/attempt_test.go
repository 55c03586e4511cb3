package attempt_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

const accepted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

type open struct{}

func (open) Open(sealed, _ []byte) ([]byte, error) { return sealed, nil }

type bench struct {
	maker    *attempt.Maker
	receiver *receivertest.Receiver
	secret   string
}

func setup(t *testing.T, tracer trace.Tracer) *bench {
	t.Helper()
	guard, err := egress.NewGuard([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	client, err := egress.NewClient(egress.Options{Guard: guard})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &bench{attempt.New(client, tracer, "1.2.3"), receivertest.New(t), signature.GenerateHMAC()}
}

func (b *bench) webhook(t *testing.T, change func(*postriderv1.Webhook)) *registry.Webhook {
	t.Helper()
	w := &postriderv1.Webhook{Id: "wh_1", AccountId: "acc_1", Url: b.receiver.URL + "/hook", Profile: "standard"}
	if change != nil {
		change(w)
	}
	r := registry.New(registry.Options{Opener: open{}, RetryScale: 1, DefaultTimeout: 5 * time.Second, DefaultMaxInFlight: 1})
	r.Handlers().Webhook(&recordv1.Webhook{
		Webhook: w, Secrets: []*recordv1.SealedSecret{{Id: "sec_1", Ciphertext: []byte(b.secret)}},
	}, 1)
	return r.Webhook("wh_1")
}

func delivery() *recordv1.Delivery {
	return &recordv1.Delivery{
		Id: "dlv_1", AccountId: "acc_1", WebhookId: "wh_1", EventId: "evt_1", EventType: "release.live",
		ContentType: "application/json", EventTime: timestamppb.Now(), Traceparent: accepted,
	}
}

func (b *bench) run(t *testing.T, w *registry.Webhook, number int32, data string) *attempt.Result {
	t.Helper()
	in := &attempt.Input{Delivery: delivery(), Webhook: w, Data: []byte(data), Number: number, Trigger: attempt.TriggerSchedule}
	prepared, result, err := b.maker.Prepare(t.Context(), in)
	require.NoError(t, err)
	if prepared != nil {
		result = b.maker.Send(t.Context(), prepared, time.Now())
	}
	_, err = proto.Marshal(result.Record)
	require.NoError(t, err)
	return result
}

func noop() trace.Tracer { return tracenoop.NewTracerProvider().Tracer("") }

func TestAnAttemptIsSignedSentAndDescribed(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	b.receiver.Answer(receivertest.Body(http.StatusOK, "thanks", "X-Answer", "yes", "Set-Cookie", "a=b"))
	w := b.webhook(t, func(w *postriderv1.Webhook) { w.Url += "?token=abc" })
	r := b.run(t, w, 1, `{"a":1}`)
	got := b.receiver.Next(t)
	require.Equal(t, postrider.Succeeded, r.Outcome)
	require.Equal(t, `{"a":1}`, string(got.Body))
	require.Equal(t, "/hook?token=abc", got.RequestURI)
	require.Equal(t, "Postrider/1.2.3", got.Header.Get("User-Agent"))
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "7", got.Header.Get("Content-Length"))
	key, err := signature.ParseSecret(b.secret, signature.KindHMAC)
	require.NoError(t, err)
	require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{key}, time.Now(), time.Minute))

	require.True(t, strings.HasPrefix(r.Record.GetAttemptId(), "att_"))
	require.Equal(t, int32(1), r.Record.GetNumber())
	require.Equal(t, "succeeded", r.Record.GetOutcome())
	require.Empty(t, r.Record.GetErrorClass())
	require.Empty(t, r.Record.GetErrorMessage())
	require.Equal(t, "POST", r.Record.GetRequestMethod())
	require.Equal(t, b.receiver.URL+"/hook?token=***", r.Record.GetRequestUrl())
	require.Equal(t, int32(200), r.Record.GetStatusCode())
	require.Equal(t, "thanks", string(r.Record.GetResponseBody()))
	require.Equal(t, "yes", r.Record.GetResponseHeaders()["X-Answer"])
	require.Equal(t, "***", r.Record.GetResponseHeaders()["Set-Cookie"])
	require.Equal(t, got.Header.Get("Webhook-Signature"), r.Record.GetRequestHeaders()["Webhook-Signature"])
	require.Equal(t, "schedule", r.Record.GetTrigger())
	require.Positive(t, r.Record.GetDurationUs())
}

func TestCustomHeadersNeverOverrideOursAndAreMasked(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	w := b.webhook(t, func(w *postriderv1.Webhook) {
		w.Headers = map[string]string{
			"X-Team": "blue", "authorization": "Bearer abc", "X-Api-Key": "abc", "User-Agent": "other",
			"Webhook-Id": "forged", "webhook-signature": "forged", "Traceparent": "forged", "Content-Type": "text/plain",
			"Host": "elsewhere", "X-Bad": "a\r\nb",
		}
	})
	r := b.run(t, w, 1, `{}`)
	got := b.receiver.Next(t)
	require.Equal(t, "blue", got.Header.Get("X-Team"))
	require.Equal(t, "Bearer abc", got.Header.Get("Authorization"))
	require.Equal(t, "abc", got.Header.Get("X-Api-Key"))
	require.Equal(t, []string{"Postrider/1.2.3"}, got.Header.Values("User-Agent"))
	require.Equal(t, []string{"evt_1"}, got.Header.Values("Webhook-Id"))
	require.NotContains(t, got.Header.Values("Webhook-Signature"), "forged")
	require.NotContains(t, got.Header.Values("Traceparent"), "forged")
	require.Equal(t, []string{"application/json"}, got.Header.Values("Content-Type"))
	require.Equal(t, b.receiver.Addr(), got.Host)
	require.Empty(t, got.Header.Get("X-Bad"))
	require.Equal(t, "***", r.Record.GetRequestHeaders()["Authorization"])
	require.Equal(t, "***", r.Record.GetRequestHeaders()["X-Api-Key"])
	require.Equal(t, "blue", r.Record.GetRequestHeaders()["X-Team"])
}

func TestWhatCannotBeSentIsPermanent(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	jewel := b.webhook(t, func(w *postriderv1.Webhook) { w.Profile = "jewelmusic" })
	r := b.run(t, jewel, 1, "not JSON")
	require.Equal(t, postrider.Permanent, r.Outcome)
	require.Equal(t, postrider.ClassUnrendered, r.Class)
	require.NotEmpty(t, r.Record.GetErrorMessage())

	long := b.webhook(t, func(w *postriderv1.Webhook) { w.Url += "?x=" + strings.Repeat("a", 8<<10) })
	r = b.run(t, long, 1, "{}")
	require.Equal(t, postrider.Permanent, r.Outcome)
	require.Equal(t, postrider.ClassURLTooLong, r.Class)

	r = b.maker.Fail(&attempt.Input{Delivery: delivery(), Webhook: jewel, Number: 3}, postrider.ClassGoneEvent, "gone")
	require.Equal(t, postrider.Permanent, r.Outcome)
	require.Equal(t, int32(3), r.Record.GetNumber())
	require.Zero(t, b.receiver.Count())
}

func TestOurOwnTroubleIsNotTheDeliverys(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	b.secret = "nonsense"
	w := b.webhook(t, nil)
	_, _, err := b.maker.Prepare(t.Context(), &attempt.Input{Delivery: delivery(), Webhook: w, Number: 1})
	require.ErrorIs(t, err, attempt.ErrNotReady)
}

func TestFailuresAreDescribed(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	w := b.webhook(t, nil)
	b.receiver.Answer(
		receivertest.RetryAfter(http.StatusServiceUnavailable, "120"),
		receivertest.Reset(),
		receivertest.Raw("HTTP/1.1 500 Oops\r\nX-Odd: \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\xfe"),
	)
	r := b.run(t, w, 1, "{}")
	require.Equal(t, postrider.Retryable, r.Outcome)
	require.True(t, r.Pause)
	require.WithinDuration(t, time.Now().Add(2*time.Minute), r.RetryAfter, 10*time.Second)
	require.Equal(t, "Service Unavailable", r.Record.GetErrorMessage())
	r = b.run(t, w, 2, "{}")
	require.Equal(t, "reset", r.Record.GetErrorClass())
	require.NotEmpty(t, r.Record.GetErrorMessage())
	require.Zero(t, r.Record.GetStatusCode())
	r = b.run(t, w, 3, "{}")
	require.Equal(t, "\uFFFD", r.Record.GetResponseHeaders()["X-Odd"])
	require.Equal(t, []byte("\xff\xfe"), r.Record.GetResponseBody())
}

func TestHeadersThatAreRecordedAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	headers := []string{"X-Long", strings.Repeat("é", 10_000)}
	for i := range 200 {
		headers = append(headers, "X-"+strings.Repeat("a", i+1), "1")
	}
	b.receiver.Answer(receivertest.Body(200, "", headers...))
	r := b.run(t, b.webhook(t, nil), 1, "{}")
	require.LessOrEqual(t, len(r.Record.GetResponseHeaders()), 32)
	require.LessOrEqual(t, proto.Size(r.Record), 32*(128+512+16)+2048)
}

func traceparent(ctx context.Context, t *testing.T, b *bench, w *registry.Webhook, number int32) (traceID, spanID string) {
	t.Helper()
	in := &attempt.Input{Delivery: delivery(), Webhook: w, Data: []byte("{}"), Number: number, Trigger: attempt.TriggerSchedule}
	prepared, _, err := b.maker.Prepare(ctx, in)
	require.NoError(t, err)
	b.maker.Send(ctx, prepared, time.Now())
	value := b.receiver.Next(t).Header.Get("Traceparent")
	if value == "" {
		return "", ""
	}
	parts := strings.Split(value, "-")
	require.Len(t, parts, 4)
	return parts[1], parts[2]
}

func TestReceiversCanJoinTheTrace(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
	work, process := tracer.Start(t.Context(), "process")
	defer process.End()
	b := setup(t, tracer)
	w := b.webhook(t, nil)

	// Nothing is recorded: a first attempt goes on with the publisher's trace, a later one has its own.
	first, span := traceparent(t.Context(), t, b, w, 1)
	require.Equal(t, accepted[3:35], first)
	require.NotEqual(t, accepted[36:52], span)
	second, _ := traceparent(t.Context(), t, b, w, 2)
	require.NotEqual(t, first, second)
	require.Len(t, second, 32)
	require.Empty(t, spans.GetSpans())

	// The attempt is recorded: the receiver is given its span.
	joined, below := traceparent(work, t, b, w, 2)
	require.Equal(t, process.SpanContext().TraceID().String(), joined)
	recorded := spans.GetSpans()
	require.Len(t, recorded, 1)
	require.Equal(t, recorded[0].SpanContext.SpanID().String(), below)
	require.Equal(t, process.SpanContext().SpanID(), recorded[0].Parent.SpanID())
	require.Equal(t, "POST", recorded[0].Name)
	require.NotContains(t, fmt.Sprint(recorded[0].Attributes), "/hook", "no path, which may hold a secret")

	silent := b.webhook(t, func(w *postriderv1.Webhook) { w.TraceContext = new(false) })
	for _, ctx := range []context.Context{t.Context(), work} {
		none, _ := traceparent(ctx, t, b, silent, 1)
		require.Empty(t, none)
	}
}

func TestAnInvalidTraceparentBeginsANewTrace(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	for _, bad := range []string{
		"", "garbage", "01" + accepted[2:], accepted + "-00", strings.Repeat("0", 55), "00-" + strings.Repeat("0", 32) + accepted[35:],
		accepted[:35] + "-" + strings.Repeat("0", 16) + "-01", strings.ToUpper(accepted[:10]) + "zz" + accepted[12:],
	} {
		d := delivery()
		d.Traceparent = bad
		p, _, err := b.maker.Prepare(t.Context(), &attempt.Input{Delivery: d, Webhook: b.webhook(t, nil), Data: []byte("{}"), Number: 1})
		require.NoError(t, err)
		b.maker.Send(t.Context(), p, time.Now())
		value := b.receiver.Next(t).Header.Get("Traceparent")
		require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, value)
		require.NotContains(t, value, accepted[3:35])
	}
}

func BenchmarkAttempt(b *testing.B) {
	guard, err := egress.NewGuard([]string{"127.0.0.0/8"})
	require.NoError(b, err)
	client, err := egress.NewClient(egress.Options{Guard: guard})
	require.NoError(b, err)
	defer client.Close()
	server := receivertest.New(b)
	maker := attempt.New(client, noop(), "1")
	r := registry.New(registry.Options{Opener: open{}, RetryScale: 1, DefaultTimeout: 5 * time.Second, DefaultMaxInFlight: 1})
	r.Handlers().Webhook(&recordv1.Webhook{
		Webhook: &postriderv1.Webhook{Id: "wh_1", AccountId: "acc_1", Url: server.URL + "/hook", Profile: "standard"},
		Secrets: []*recordv1.SealedSecret{{Id: "sec_1", Ciphertext: []byte(signature.GenerateHMAC())}},
	}, 1)
	in := &attempt.Input{Delivery: delivery(), Webhook: r.Webhook("wh_1"), Data: bytes.Repeat([]byte("x"), 1024), Number: 1}
	b.ReportAllocs()
	b.Run("prepare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, _, err := maker.Prepare(b.Context(), in)
			if err != nil {
				b.Fatal(err)
			}
			p.Discard()
		}
	})
}

func TestTheBodyIsRecordedUnlessItIsTheEventsData(t *testing.T) {
	t.Parallel()
	b := setup(t, noop())
	r := b.run(t, b.webhook(t, nil), 1, `{"a":1}`)
	b.receiver.Next(t)
	require.True(t, r.Record.GetRequestBodyIsData())
	require.Empty(t, r.Record.GetRequestBody())
	require.EqualValues(t, 7, r.Record.GetRequestBodySize())
	require.Positive(t, r.Record.GetTimings().GetFirstByteUs())
	require.Equal(t, b.receiver.Addr(), r.Record.GetTimings().GetRemoteAddress())

	jewel := b.webhook(t, func(w *postriderv1.Webhook) { w.Profile = "jewelmusic" })
	r = b.run(t, jewel, 1, `{"a":1}`)
	got := b.receiver.Next(t)
	require.False(t, r.Record.GetRequestBodyIsData())
	require.Equal(t, string(got.Body), string(r.Record.GetRequestBody()))
	require.EqualValues(t, len(got.Body), r.Record.GetRequestBodySize())
}
