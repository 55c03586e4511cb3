package notice_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/notice"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a configuration with one webhook, and the streams that notices come from and go to.
type bundle struct {
	store   *config.Store
	events  *eventstream.Stream
	letters *deadletterstream.Stream
	account string
	webhook *postriderv1.Webhook
	now     time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	b := &bundle{account: string(postrider.NewAccountID()), now: time.Now()}
	b.store, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	b.events, err = eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	b.letters, err = deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	b.webhook = &postriderv1.Webhook{
		Id: string(postrider.NewWebhookID()), AccountId: b.account, EventTypes: []string{"*"}, Url: "https://example.com/?secret=x",
		State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, StateTime: timestamppb.New(b.now.Add(-time.Hour)),
	}
	_, err = b.store.CreateWebhook(t.Context(), &recordv1.Webhook{Webhook: b.webhook})
	require.NoError(t, err)
	return b
}

// process is a publisher as a process has it that starts at a time.
func (b *bundle) process(t *testing.T, operator string, at time.Time) *notice.Publisher {
	t.Helper()
	return notice.New(notice.Config{Operator: operator, Lead: 72 * time.Hour}, notice.Deps{
		Store: b.store, Events: b.events, Letters: b.letters, Logger: logtest.New(t), Now: func() time.Time { return at },
	})
}

// disable does the deed.
func (b *bundle) disable(t *testing.T, w *postriderv1.Webhook) {
	t.Helper()
	rec, revision, err := b.store.GetWebhook(t.Context(), b.account, b.webhook.GetId())
	require.NoError(t, err)
	rec.Webhook = w
	_, err = b.store.UpdateWebhook(t.Context(), rec, revision)
	require.NoError(t, err)
}

func (b *bundle) disabled() *postriderv1.Webhook {
	return &postriderv1.Webhook{
		Id: b.webhook.GetId(), AccountId: b.account, EventTypes: []string{"*"}, Url: b.webhook.GetUrl(),
		State: postriderv1.WebhookState_WEBHOOK_STATE_DISABLED, StateReason: "failing", StateTime: timestamppb.New(b.now),
	}
}

func (b *bundle) published(t *testing.T) (list []*recordv1.Event) {
	t.Helper()
	require.NoError(t, b.events.Scan(t.Context(), time.Now().Add(-time.Hour), func(_ uint64, ev *recordv1.Event) error {
		list = append(list, ev)
		return nil
	}))
	return list
}

func (b *bundle) pending(t *testing.T) int {
	t.Helper()
	list, err := b.store.ListNotices(t.Context(), 100)
	require.NoError(t, err)
	return len(list)
}

func TestANoticeOfADeedIsPublishedThoughItsProcessDied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.disabled()
	list := b.process(t, "", b.now).State(w)
	require.NoError(t, b.process(t, "", b.now).Prepare(t.Context(), list))
	b.disable(t, w) // and dies here
	require.NoError(t, b.process(t, "", b.now.Add(30*time.Second)).Sweep(t.Context()))
	require.Empty(t, b.published(t), "the process may be alive")
	for range 2 { // two replicas, or one twice
		require.NoError(t, b.process(t, "", b.now.Add(2*time.Minute)).Sweep(t.Context()))
	}
	events := b.published(t)
	require.Len(t, events, 1)
	require.Equal(t, "postrider.webhook.disabled", events[0].GetType())
	require.Equal(t, list[0].GetEvent().GetId(), events[0].GetId())
	require.NotContains(t, string(events[0].GetData()), "secret")
	require.Zero(t, b.pending(t))
}

func TestANoticeThatWasPublishedAndNotRemovedIsTheSameEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.disabled()
	p := b.process(t, "", b.now)
	list := p.State(w)
	require.NoError(t, p.Prepare(t.Context(), list))
	b.disable(t, w)
	p.Send(t.Context(), list)
	require.NoError(t, p.Prepare(t.Context(), list)) // as if the removal had not been made
	require.NoError(t, b.process(t, "", b.now.Add(2*time.Minute)).Sweep(t.Context()))
	require.Len(t, b.published(t), 1, "the message id absorbs it")
	require.Zero(t, b.pending(t))
}

func TestANoticeOfWhatWasNotDoneIsDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.process(t, "", b.now)
	failing := &recordv1.Failing{AccountId: b.account, WebhookId: b.webhook.GetId(), Since: timestamppb.New(b.now.Add(-time.Hour))}
	require.NoError(t, p.Prepare(t.Context(), p.State(b.disabled())))
	require.NoError(t, p.Prepare(t.Context(), p.Failing(b.webhook, failing, 50, time.Hour)))
	require.Equal(t, 2, b.pending(t))
	require.NoError(t, b.process(t, "", b.now.Add(2*time.Minute)).Sweep(t.Context()))
	require.Empty(t, b.published(t))
	require.Zero(t, b.pending(t))
}

func TestAWarningThatWasNotedIsPublishedThoughItsProcessDied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.process(t, "", b.now)
	failing := &recordv1.Failing{AccountId: b.account, WebhookId: b.webhook.GetId(), Since: timestamppb.New(b.now.Add(-time.Hour)), WarnedPercent: 50}
	require.NoError(t, p.Prepare(t.Context(), p.Failing(b.webhook, failing, 50, time.Hour)))
	_, err := b.store.CreateFailing(t.Context(), failing)
	require.NoError(t, err)
	require.NoError(t, b.process(t, "", b.now.Add(2*time.Minute)).Sweep(t.Context()))
	require.Len(t, b.published(t), 1)
}

func TestTheOperatorGetsACopy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := string(postrider.NewAccountID())
	p := b.process(t, operator, b.now)
	list := p.State(b.disabled())
	require.NoError(t, p.Prepare(t.Context(), list))
	p.Send(t.Context(), list)
	events := b.published(t)
	require.Len(t, events, 2)
	require.NotEqual(t, events[0].GetId(), events[1].GetId())
	for i, owner := range []string{b.account, operator} {
		require.Equal(t, owner, events[i].GetAccountId())
		require.Equal(t, b.account, events[i].GetLabels()["account_id"])
	}
	require.Len(t, b.process(t, b.account, b.now).State(b.disabled()), 1, "of its own account it gets one")
}

func TestAWebhookThatCarriesOperationalEventsIsNoSubject(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.process(t, string(postrider.NewAccountID()), b.now)
	for _, patterns := range [][]string{{"postrider.*"}, {"a", "postrider.webhook.failing"}} {
		w := b.disabled()
		w.EventTypes = patterns
		require.Empty(t, p.State(w))
		require.Empty(t, p.Failing(w, &recordv1.Failing{}, 50, time.Hour))
	}
}

// bury makes a dead letter of an age.
func (b *bundle) bury(t *testing.T, account, eventType string, age time.Duration) {
	t.Helper()
	done := make(chan error, 1)
	require.NoError(t, b.letters.Publish(t.Context(), &recordv1.DeadLetter{
		Time: timestamppb.New(b.now.Add(-age)),
		Delivery: &recordv1.Delivery{
			Id: string(postrider.DeliveryIDFor(postrider.NewEventID(), "wh_1", "")), AccountId: account, WebhookId: "wh_1", EventType: eventType,
		},
	}, func(err error) { done <- err }))
	require.NoError(t, <-done)
}

func TestAnAccountIsToldOnceOfDeadLettersThatExpireInThreeDays(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	b := setup(t)
	other := string(postrider.NewAccountID())
	b.bury(t, b.account, "release.live", 29*day)
	b.bury(t, b.account, "release.live", 28*day)
	b.bury(t, b.account, "postrider.webhook.failing", 28*day)
	b.bury(t, other, "postrider.webhook.failing", 28*day)
	b.bury(t, b.account, "release.live", 26*day)
	for range 2 {
		require.NoError(t, b.process(t, "", b.now).Announce(t.Context()))
	}
	events := b.published(t)
	require.Len(t, events, 1, "dead letters of operational events are not told of")
	require.Equal(t, "postrider.dead_letters.expiring", events[0].GetType())
	require.Contains(t, string(events[0].GetData()), `"count":2`)
	require.Contains(t, string(events[0].GetData()), `"by_webhook":{"wh_1":2}`)

	require.NoError(t, b.process(t, "", b.now.Add(23*time.Hour)).Announce(t.Context()))
	require.Len(t, b.published(t), 1)
	require.NoError(t, b.process(t, "", b.now.Add(25*time.Hour)).Announce(t.Context()))
	events = b.published(t)
	require.Len(t, events, 2)
	require.Contains(t, string(events[1].GetData()), `"count":1`)
	require.Zero(t, b.pending(t))
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.process(t, "", b.now).Run(ctx) }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
