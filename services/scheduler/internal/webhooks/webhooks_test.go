package webhooks_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/scheduler/internal/webhooks"
)

const (
	active   = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE
	paused   = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED
	disabled = postriderv1.WebhookState_WEBHOOK_STATE_DISABLED
)

func record(id postrider.WebhookID, state postriderv1.WebhookState, since int64) *recordv1.Webhook {
	return &recordv1.Webhook{Webhook: &postriderv1.Webhook{
		Id: string(id), AccountId: "acc_1", State: state, StateTime: &timestamppb.Timestamp{Seconds: since},
	}}
}

func TestRegistryTellsOfStatesThatChanged(t *testing.T) {
	t.Parallel()
	type put struct {
		state    postriderv1.WebhookState
		since    int64
		revision uint64
	}
	tests := map[string]struct {
		puts []put
		told []postrider.WebhookState
	}{
		"a webhook that was not known is not told of": {[]put{{paused, 1, 1}}, nil},
		"a pause is told of":                          {[]put{{active, 1, 1}, {paused, 2, 2}}, []postrider.WebhookState{"paused"}},
		"a change of something else is not":           {[]put{{active, 1, 1}, {active, 1, 2}}, nil},
		"a pause and a resume seen as one change are": {[]put{{active, 1, 1}, {active, 3, 3}}, []postrider.WebhookState{"active"}},
		"another reason to be held is":                {[]put{{paused, 1, 1}, {disabled, 2, 2}}, []postrider.WebhookState{"disabled"}},
		"an older revision changes nothing":           {[]put{{paused, 2, 2}, {active, 1, 1}}, nil},
		"a state of a later version is held":          {[]put{{active, 1, 1}, {99, 2, 2}}, []postrider.WebhookState{"disabled"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told []postrider.WebhookState
			r := webhooks.NewRegistry(func(w webhooks.Webhook) { told = append(told, w.State) })
			for _, p := range test.puts {
				r.Put(record("wh_1", p.state, p.since), p.revision)
			}
			require.Equal(t, test.told, told)
		})
	}
}

func TestRegistryKeepsDeletedWebhooksUntilTheyAreForgotten(t *testing.T) {
	t.Parallel()
	told := 0
	r := webhooks.NewRegistry(func(webhooks.Webhook) { told++ })
	r.Delete("acc_1", "wh_1", 1)
	require.Equal(t, 1, told, "what waits for it must go, also if it was never seen alive")
	w, ok := r.Lookup("wh_1")
	require.True(t, ok)
	require.Equal(t, postrider.WebhookDeleted, w.State)
	require.False(t, w.Active())
	r.Forget("wh_1")
	_, ok = r.Lookup("wh_1")
	require.False(t, ok)

	r.Put(record("wh_2", active, 1), 2)
	r.Forget("wh_2")
	_, ok = r.Lookup("wh_2")
	require.True(t, ok, "a webhook that lives is not forgotten")
}

func TestRegistryKnowsWhetherAStateIsTheSameStill(t *testing.T) {
	t.Parallel()
	r := webhooks.NewRegistry(func(webhooks.Webhook) {})
	r.Put(record("wh_1", active, 1), 1)
	w, _ := r.Lookup("wh_1")
	require.True(t, r.Current(w))
	r.Put(record("wh_1", active, 1), 2)
	require.True(t, r.Current(w), "another rate limit, say")
	r.Put(record("wh_1", active, 5), 5)
	require.False(t, r.Current(w), "it was paused in between")
}

func TestRegistryAwaitsARevision(t *testing.T) {
	t.Parallel()
	r := webhooks.NewRegistry(func(webhooks.Webhook) {})
	r.Put(record("wh_1", active, 1), 1)
	found := make(chan webhooks.Webhook, 1)
	go func() {
		w, _ := r.Await(t.Context(), "wh_1", 3)
		found <- w
	}()
	r.Put(record("wh_2", active, 1), 2)
	r.Put(record("wh_1", paused, 3), 3)
	select {
	case w := <-found:
		require.Equal(t, uint64(3), w.Revision)
	case <-time.After(5 * time.Second):
		require.Fail(t, "the revision came and nobody was told")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, ok := r.Await(ctx, "wh_1", 9)
	require.True(t, ok)
	require.Equal(t, uint64(3), w.Revision, "what is known when the time is over")
	_, ok = r.Await(ctx, "wh_9", 0)
	require.False(t, ok)
}
