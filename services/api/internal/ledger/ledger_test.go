package ledger_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/ledger"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a delivery log, a recorder and routers that say what a test wants.
type source struct {
	counts   map[postrider.AccountID]logstore.Counts
	asked    int
	failures error
}

func (s *source) Ledger(context.Context) (map[postrider.AccountID]logstore.Counts, error) {
	s.asked++
	return s.counts, s.failures
}

func (*source) Recorded(context.Context, string) (floor uint64, pending int64, err error) {
	return 1, 7, nil
}

func (*source) Routed(context.Context) (eventstream.Routing, error) {
	return eventstream.Routing{}, nil // no router has ever run
}

// ListAccounts knows one premium account.
func (*source) ListAccounts(context.Context, string, int) ([]config.Entry[*recordv1.Account], error) {
	return []config.Entry[*recordv1.Account]{{Record: &recordv1.Account{Account: &postriderv1.Account{Id: "acc_1", AccountClass: "premium"}}}}, nil
}

func open(t *testing.T, s *source, now func() time.Time) *ledger.Counter {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	queue, err := deliverystream.Ensure(t.Context(), c, deliverystream.Default())
	require.NoError(t, err)
	retries, err := retrystream.Ensure(t.Context(), c, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(retries.Close)
	stored := make(chan error, 1)
	require.NoError(t, queue.Publish(t.Context(), &recordv1.Delivery{Id: "dlv_1", AccountId: "acc_1", WebhookId: "wh_1"}, func(err error) { stored <- err }))
	require.NoError(t, <-stored)
	return ledger.NewCounter(ledger.Sources{Streams: c, Log: s, Journal: s, Recorder: func() string { return "recorder" }, Events: s, Now: now})
}

func TestTheMetricsShowEachTermByAccountClass(t *testing.T) {
	t.Parallel()
	s := &source{counts: map[postrider.AccountID]logstore.Counts{
		"acc_1": {Routed: 5, In: map[postrider.DeliveryState]int64{postrider.Delivered: 3, postrider.Pending: 1, postrider.Dead: 1}},
		"acc_2": {Routed: 2, In: map[postrider.DeliveryState]int64{postrider.Cancelled: 1}},
		"acc_3": {Routed: 1, In: map[postrider.DeliveryState]int64{postrider.Cancelled: 1}},
	}}
	now := time.Now()
	counter := open(t, s, func() time.Time { return now })
	tel, err := telemetry.New(telemetry.Default(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
	meter, err := ledger.NewMeter(counter, s, tel.Meter("test"), logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, meter.Observe(t.Context()))
	shown := scrape(t, tel)
	for _, line := range []string{
		`postrider_ledger_deliveries\{account_class="premium",term="routed"\} 5`,
		`postrider_ledger_deliveries\{account_class="premium",term="in_flight"\} 1`,
		`postrider_ledger_deliveries\{account_class="standard",term="cancelled"\} 2`,
		`postrider_ledger_difference\{account_class="premium"\} 0`,
		`postrider_ledger_difference\{account_class="standard"\} 1`,
		`postrider_ledger_unrecorded 7`,
	} {
		require.Regexp(t, line, shown)
	}

	s.counts = map[postrider.AccountID]logstore.Counts{"acc_1": s.counts["acc_1"]}
	now = now.Add(time.Hour)
	require.NoError(t, meter.Observe(t.Context()))
	require.Regexp(t, `postrider_ledger_deliveries\{account_class="standard",term="cancelled"\} 0`, scrape(t, tel), "a class that has no deliveries any more")
}

func scrape(t *testing.T, tel *telemetry.Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestCallsThatComeTogetherShareACount(t *testing.T) {
	t.Parallel()
	s := &source{failures: errors.New("away")}
	now := time.Now()
	counter := open(t, s, func() time.Time { return now })
	_, err := counter.Count(t.Context())
	require.Error(t, err)
	require.Nil(t, counter.Last(), "what failed is not shared")
	s.failures = nil
	for range 3 {
		c, err := counter.Count(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, c.Accounts["acc_1"].InFlight)
	}
	require.Equal(t, 2, s.asked)
	now = now.Add(time.Hour)
	_, err = counter.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, s.asked)
}
