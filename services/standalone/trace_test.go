package standalone_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/collectortest"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// The trace that producers send, and its id.
const (
	producerTrace = "0af7651916cd43dd8448eb211c80319c"
	traceparent   = "00-" + producerTrace + "-b7ad6b7169203331-01"
)

// classAccount makes an account of a class.
func (u *user) classAccount(t *testing.T, class string) *user {
	t.Helper()
	v := u.newAccount(t)
	_, err := u.accounts.UpdateAccount(u.ctx(t), &postriderv1.UpdateAccountRequest{
		Account: &postriderv1.Account{Id: v.account, AccountClass: class}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"account_class"}},
	})
	require.NoError(t, err)
	return v
}

// named is a span of a trace by its name.
func named(trace, name string) func(collectortest.Span) bool {
	return func(s collectortest.Span) bool { return s.TraceID == trace && s.Name == name }
}

// One trace leads from the producer's call through both streams to the attempt and to the receiver;
// the retry is a trace of its own that links to it.
func TestOneTraceFromThePublishToTheAttempt(t *testing.T) {
	t.Parallel()
	spans := collectortest.Start(t)
	cfg := config(t.TempDir())
	cfg.Telemetry.OTLPEndpoint, cfg.Telemetry.TraceRatio = spans.Endpoint, 0 // what is recorded is what the producer asks for
	svc, _ := start(t, cfg)
	u := admin(t, svc).classAccount(t, "internal")
	receiver := receivertest.New(t).Respond(http.StatusServiceUnavailable, http.StatusOK)
	u.webhook(t, receiver.URL+"/secret-path?token=secret")

	ctx := metadata.AppendToOutgoingContext(u.ctx(t), "traceparent", traceparent, "baggage", "user=secret", "tracestate", "vendor=secret")
	resp, err := u.events.PublishEvent(ctx, &postriderv1.PublishEventRequest{Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{}`)}})
	require.NoError(t, err)
	u.awaitDelivered(t, resp.GetReceipt().GetEventId())

	parent := "b7ad6b7169203331"
	for _, name := range []string{
		"postrider.v1.EventService/PublishEvent", "publish EVENTS", "process EVENTS", "publish DELIVERIES_0", "process DELIVERIES_0", "POST",
	} {
		s := spans.Await(t, name, named(producerTrace, name))
		require.Equal(t, parent, s.ParentID, "%s is below the one before", name)
		if strings.HasPrefix(name, "process") {
			require.Equal(t, []string{producerTrace}, s.Links, name)
			require.Equal(t, resp.GetReceipt().GetEventId(), s.Attributes["postrider.event.id"])
		}
		parent = s.SpanID
	}
	retry := spans.Await(t, "of the retry", func(s collectortest.Span) bool { return s.Name == "process RETRIES_0" })
	require.NotEqual(t, producerTrace, retry.TraceID)
	require.Empty(t, retry.ParentID)
	require.Equal(t, []string{producerTrace}, retry.Links)
	second := spans.Await(t, "of the second attempt", named(retry.TraceID, "POST"))
	require.Equal(t, retry.SpanID, second.ParentID)
	spans.Await(t, "of the call of the scheduler", named(producerTrace, "postrider.scheduler.v1.SchedulerService/ScheduleRetry"))

	for i, want := range []string{"00-" + producerTrace + "-" + parent + "-01", "00-" + retry.TraceID + "-" + second.SpanID + "-01"} {
		got := receiver.All()[i].Header
		require.Equal(t, want, got.Get("Traceparent"), "the receiver joins at the attempt")
		require.Empty(t, got.Get("Baggage"))
		require.Empty(t, got.Get("Tracestate"))
	}
	for _, s := range spans.Spans() {
		for name, value := range s.Attributes {
			require.NotContains(t, value, "secret", "%s of %s", name, s.Name)
		}
	}
}

// A producer that is not the operator's own does not decide what is recorded: its call is a trace
// of ours, linked to the producer's, and its receivers still get the producer's trace.
func TestATraceOfAStrangerIsLinkedOnly(t *testing.T) {
	t.Parallel()
	for name, ratio := range map[string]float64{"recorded": 1, "not recorded": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans := collectortest.Start(t)
			cfg := config(t.TempDir())
			cfg.Telemetry.OTLPEndpoint, cfg.Telemetry.TraceRatio = spans.Endpoint, ratio
			svc, stop := start(t, cfg)
			u := admin(t, svc).classAccount(t, "premium")
			receiver := receivertest.New(t)
			u.webhook(t, receiver.URL)

			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, svc.HTTPURL()+"/v1/events", strings.NewReader(`{"type":"order.paid","data":{}}`))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+u.key)
			req.Header.Set("Traceparent", traceparent)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusAccepted, res.StatusCode)
			got := receiver.Next(t).Header.Get("Traceparent")
			if ratio == 0 {
				require.Equal(t, producerTrace, got[3:35])
				require.True(t, strings.HasSuffix(got, "-00"), got)
				stop() // whatever there is has been sent
				require.Empty(t, spans.Spans())
				return
			}
			s := spans.Await(t, "of the request", func(s collectortest.Span) bool { return s.Name == "POST /v1/events" })
			require.NotEqual(t, producerTrace, s.TraceID)
			require.Equal(t, []string{producerTrace}, s.Links)
			require.Equal(t, s.TraceID, got[3:35])
			require.False(t, slices.ContainsFunc(spans.Spans(), func(s collectortest.Span) bool { return s.TraceID == producerTrace }))
		})
	}
}
