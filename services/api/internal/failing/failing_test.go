package failing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/failing"
)

const (
	day   = 24 * time.Hour
	limit = 5 * day
)

var start = time.Unix(1_800_000_000, 0)

func at(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(start.Add(d)) }

func webhook() *postriderv1.Webhook {
	return &postriderv1.Webhook{
		Id: "wh_1", AccountId: "acc_1", Url: "https://a.example", StateTime: at(-day), State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE,
	}
}

func failed(since, last time.Duration) *apiv1.WebhookOutcomes {
	return &apiv1.WebhookOutcomes{FailingSince: at(since), LastFailureTime: at(last), LastStatusCode: 503}
}

func succeeded(when time.Duration) *apiv1.WebhookOutcomes {
	return &apiv1.WebhookOutcomes{SuccessTime: at(when)}
}

// spell merges reports, one after the other.
func spell(w *postriderv1.Webhook, reports ...*apiv1.WebhookOutcomes) *recordv1.Failing {
	var f *recordv1.Failing
	for _, r := range reports {
		f = failing.Merge(f, r, w, limit)
	}
	return f
}

func TestASpellOfFailing(t *testing.T) {
	t.Parallel()
	paused := webhook()
	paused.State, paused.StateTime = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED, at(day)
	resumed := webhook()
	resumed.StateTime = at(2 * day)
	tests := map[string]struct {
		webhook *postriderv1.Webhook
		reports []*apiv1.WebhookOutcomes
		since   time.Duration // -1 for no spell
		last    time.Duration
	}{
		"begins with the first failure": {webhook(), []*apiv1.WebhookOutcomes{failed(0, time.Second)}, 0, time.Second},
		"goes on":                       {webhook(), []*apiv1.WebhookOutcomes{failed(0, 0), failed(0, day), failed(0, 2*day)}, 0, 2 * day},
		"goes on when another dispatcher takes over":   {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), failed(25*time.Hour, 2*day)}, 0, 2 * day},
		"is not shortened by a late report":            {webhook(), []*apiv1.WebhookOutcomes{failed(0, 2*day), failed(0, day)}, 0, 2 * day},
		"begins earlier by a late report":              {webhook(), []*apiv1.WebhookOutcomes{failed(time.Hour, 2*day), failed(0, day)}, 0, 2 * day},
		"ends with a success":                          {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), succeeded(day + 1)}, -1, 0},
		"is untouched by a success before it":          {webhook(), []*apiv1.WebhookOutcomes{failed(day, day), succeeded(0)}, day, day},
		"is untouched by a report of nothing":          {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), {}}, 0, day},
		"ends with a pause of more than 30 h":          {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), failed(day+31*time.Hour, 4*day)}, day + 31*time.Hour, 4 * day},
		"outlasts the longest delay of a schedule":     {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), failed(2*day+time.Hour, 2*day+time.Hour)}, 0, 2*day + time.Hour},
		"begins anew when the webhook was resumed":     {resumed, []*apiv1.WebhookOutcomes{failed(0, 2*day+time.Hour)}, 2 * day, 2*day + time.Hour},
		"is nothing for failures before the resume":    {resumed, []*apiv1.WebhookOutcomes{failed(0, day)}, -1, 0},
		"is nothing for a webhook that is not active":  {paused, []*apiv1.WebhookOutcomes{failed(2*day, 3*day)}, -1, 0},
		"begins again after a success in one report":   {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), {SuccessTime: at(2 * day), FailingSince: at(2*day + 1), LastFailureTime: at(3 * day), LastStatusCode: 503}}, 2*day + 1, 3 * day},
		"never was if the first report is of success":  {webhook(), []*apiv1.WebhookOutcomes{succeeded(0)}, -1, 0},
		"is the same if a report of failures is twice": {webhook(), []*apiv1.WebhookOutcomes{failed(0, day), failed(0, day)}, 0, day},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := spell(tt.webhook, tt.reports...)
			if tt.since < 0 {
				require.Nil(t, f)
				return
			}
			require.Equal(t, at(tt.since).AsTime(), f.GetSince().AsTime())
			require.Equal(t, at(tt.last).AsTime(), f.GetLastFailureTime().AsTime())
			require.Equal(t, "wh_1", f.GetWebhookId())
			require.EqualValues(t, 503, f.GetLastStatusCode())
		})
	}
}

func TestAnotherURLBeginsAnotherSpell(t *testing.T) {
	t.Parallel()
	f := spell(webhook(), failed(0, 4*day))
	f.WarnedPercent = 80
	moved := webhook()
	moved.Url = "https://b.example"
	f = failing.Merge(f, failed(4*day+1, 4*day+2), moved, limit)
	require.Equal(t, at(4*day+1).AsTime(), f.GetSince().AsTime())
	require.Zero(t, f.GetWarnedPercent())
}

func TestWhatASpellCallsFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last    time.Duration
		warned  int32
		limit   time.Duration
		warn    int32
		disable bool
	}{
		"nothing before half of the time":                    {limit/2 - 1, 0, limit, 0, false},
		"a warning at half of it":                            {limit / 2, 0, limit, 50, false},
		"one warning only":                                   {limit/2 + time.Hour, 50, limit, 0, false},
		"a warning at 80 %":                                  {limit / 5 * 4, 50, limit, 80, false},
		"a warning at 95 %":                                  {limit / 20 * 19, 80, limit, 95, false},
		"the highest mark that was passed":                   {limit / 20 * 19, 0, limit, 95, false},
		"the end of it":                                      {limit, 95, limit, 0, true},
		"the end of it although a mark was missed":           {limit, 50, limit, 0, true},
		"no end without a warning before":                    {2 * limit, 0, limit, 95, false},
		"nothing for an account that wants none":             {100 * limit, 95, 0, 0, false},
		"a warning if the limit was shortened in the middle": {limit / 2, 50, limit / 2, 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warn, disable := failing.Judge(&recordv1.Failing{Since: at(0), LastFailureTime: at(tt.last), WarnedPercent: tt.warned}, tt.limit)
			require.Equal(t, tt.warn, warn)
			require.Equal(t, tt.disable, disable)
		})
	}
	warn, disable := failing.Judge(nil, limit)
	require.Zero(t, warn)
	require.False(t, disable)
}

func TestLimit(t *testing.T) {
	t.Parallel()
	own := func(d time.Duration) *postriderv1.Webhook {
		return &postriderv1.Webhook{DisableFailingAfter: durationpb.New(d)}
	}
	account := func(d time.Duration) *postriderv1.Account {
		return &postriderv1.Account{DisableFailingAfter: durationpb.New(d)}
	}
	require.Equal(t, limit, failing.Limit(&postriderv1.Webhook{}, &postriderv1.Account{}, limit))
	require.Equal(t, day, failing.Limit(&postriderv1.Webhook{}, account(day), limit))
	require.Equal(t, 9*day, failing.Limit(&postriderv1.Webhook{}, account(9*day), limit))
	require.Equal(t, time.Hour, failing.Limit(own(time.Hour), account(day), limit))
	require.Equal(t, day, failing.Limit(own(2*day), account(day), limit), "a webhook may not lengthen it")
	require.Zero(t, failing.Limit(&postriderv1.Webhook{}, account(0), limit))
	require.Equal(t, day, failing.Limit(own(day), account(0), limit))
}

// TestAnyHistoryDisablesOnlyWhatFailedAllTheTime gives reports of a random history, some of them
// twice, and checks that what is disabled had no success for the limit before.
func TestAnyHistoryDisablesOnlyWhatFailedAllTheTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := webhook()
		var f *recordv1.Failing
		var now, lastSuccess time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "attempts") {
			now += time.Duration(rapid.Int64Range(1, int64(40*time.Hour)).Draw(t, "pause"))
			var r *apiv1.WebhookOutcomes
			if rapid.IntRange(0, 9).Draw(t, "outcome") == 0 {
				r, lastSuccess = succeeded(now), now
			} else {
				r = failed(now, now)
			}
			f = failing.Merge(f, r, w, limit)
			if rapid.Bool().Draw(t, "twice") {
				f = failing.Merge(f, r, w, limit)
			}
			warn, disable := failing.Judge(f, limit)
			if warn > 0 {
				require.Greater(t, warn, f.GetWarnedPercent())
				f.WarnedPercent = warn
			}
			if disable {
				require.GreaterOrEqual(t, now-lastSuccess, limit)
				require.Positive(t, f.GetWarnedPercent())
			}
		}
	})
}
