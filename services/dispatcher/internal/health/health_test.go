package health_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	"github.com/postrider/postrider/services/dispatcher/internal/health"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taker keeps what is reported, unless it is away or refuses.
type taker struct {
	mu      sync.Mutex
	away    bool
	refuse  map[string]bool
	reports []*apiv1.WebhookOutcomes
}

func (k *taker) Report(_ context.Context, reports []*apiv1.WebhookOutcomes) (failed []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return nil, errors.New("away")
	}
	for _, r := range reports {
		if k.refuse[r.GetWebhookId()] {
			failed = append(failed, r.GetWebhookId())
			continue
		}
		k.reports = append(k.reports, r)
	}
	return failed, nil
}

// next is what was reported since the last call.
func (k *taker) next() []*apiv1.WebhookOutcomes {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.reports
	k.reports = nil
	return out
}

var start = time.Unix(1_800_000_000, 0)

type bundle struct {
	*taker

	now time.Time
	r   *health.Recorder
	w   *health.Watch
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{taker: &taker{}, now: start}
	b.r = health.New(b.taker, 5*time.Minute, func() time.Time { return b.now }, logtest.New(t))
	b.w = b.r.Open()
	return b
}

// saw lets an attempt of a webhook end, d after the start, that took a second.
func (b *bundle) saw(webhook string, d time.Duration, succeeded bool) {
	b.now = start.Add(d)
	o := &health.Outcome{Account: "acc_1", Webhook: webhook, Succeeded: succeeded, Start: b.now.Add(-time.Second), End: b.now}
	if !succeeded {
		o.StatusCode, o.ErrorClass = 503, "http_status"
	}
	b.w.Saw(o)
}

func (b *bundle) flush(t *testing.T) []*apiv1.WebhookOutcomes {
	t.Helper()
	b.r.Flush(t.Context())
	return b.next()
}

func TestAHealthyWebhookIsReportedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for d := range 100 {
		b.saw("wh_1", time.Duration(d)*time.Second, true)
		reports := b.flush(t)
		if d > 0 {
			require.Empty(t, reports)
			continue
		}
		require.Len(t, reports, 1)
		require.Equal(t, start, reports[0].GetSuccessTime().AsTime().Local())
		require.Nil(t, reports[0].GetFailingSince())
	}
}

func TestAFailingWebhookIsReportedWhenItBeginsAndThenEveryFiveMinutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var at []time.Duration
	for d := time.Duration(0); d <= 16*time.Minute; d += time.Minute {
		b.saw("wh_1", d, false)
		for _, r := range b.flush(t) {
			at = append(at, d)
			require.EqualValues(t, 503, r.GetLastStatusCode())
			require.Equal(t, b.now, r.GetLastFailureTime().AsTime().Local())
			first := max(d-4*time.Minute, 0)
			require.Equal(t, start.Add(first-time.Second), r.GetFailingSince().AsTime().Local(), "the first since the last report")
		}
	}
	require.Equal(t, []time.Duration{0, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute}, at)
	b.saw("wh_1", 17*time.Minute, true)
	reports := b.flush(t)
	require.Len(t, reports, 1, "a success is reported at once")
	require.NotNil(t, reports[0].GetSuccessTime())
	require.Nil(t, reports[0].GetFailingSince(), "what failed before it says nothing")
	b.saw("wh_1", 18*time.Minute, false)
	require.Len(t, b.flush(t), 1)
}

func TestWhatIsNotTakenIsReportedWithWhatCameSince(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.away = true
	b.saw("wh_1", 0, true)
	require.Empty(t, b.flush(t))
	b.saw("wh_1", time.Minute, false)
	require.Empty(t, b.flush(t))
	b.saw("wh_1", 2*time.Minute, false)
	b.away, b.refuse = false, map[string]bool{"wh_1": true}
	b.saw("wh_2", 2*time.Minute, true)
	reports := b.flush(t)
	require.Len(t, reports, 1)
	require.Equal(t, "wh_2", reports[0].GetWebhookId())
	b.refuse = nil
	reports = b.flush(t)
	require.Len(t, reports, 1)
	require.Equal(t, start, reports[0].GetSuccessTime().AsTime().Local())
	require.Equal(t, start.Add(59*time.Second), reports[0].GetFailingSince().AsTime().Local())
	require.Equal(t, start.Add(2*time.Minute), reports[0].GetLastFailureTime().AsTime().Local())
}

func TestAShardThatIsTakenAgainIsNotKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.saw("wh_1", 0, true)
	require.Len(t, b.flush(t), 1)
	b.w.Close()
	b.saw("wh_1", time.Second, false) // a straggler after the shard was given up
	b.w = b.r.Open()
	// Another holder may have reported failures in between, so the success must be told.
	b.saw("wh_1", time.Minute, true)
	require.Len(t, b.flush(t), 1)
}

func TestWhatAShardLeavesIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.saw("wh_1", 0, false)
	require.Len(t, b.flush(t), 1)
	b.saw("wh_1", time.Minute, false) // not due yet
	b.away = true
	b.w.Close()
	require.Empty(t, b.flush(t))
	b.w = b.r.Open()
	b.away = false
	reports := b.flush(t)
	require.Len(t, reports, 1)
	require.Equal(t, start.Add(time.Minute), reports[0].GetLastFailureTime().AsTime().Local())
	require.Empty(t, b.flush(t))
}

func TestMoreThanABatchIsReportedInSeveral(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 200 {
		b.saw("wh_"+time.Duration(i).String(), 0, i%2 == 0)
	}
	require.Len(t, b.flush(t), 200)
	require.Empty(t, b.flush(t))
}

func TestCloseReportsWhatIsLeft(t *testing.T) {
	t.Parallel()
	k := &taker{}
	r := health.New(k, time.Hour, time.Now, logtest.New(t))
	r.Start()
	w := r.Open()
	w.Saw(&health.Outcome{Account: "acc_1", Webhook: "wh_1", Succeeded: true, End: time.Now()})
	w.Close()
	r.Close()
	require.Len(t, k.next(), 1)

	none := health.New(nil, time.Hour, time.Now, logtest.New(t))
	none.Start()
	none.Open().Saw(&health.Outcome{Webhook: "wh_1"})
	none.Close()
}
