package registry_test

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// opener takes the ciphertext for the plaintext, if it is where it belongs.
type opener struct{}

func (opener) Open(sealed, associated []byte) ([]byte, error) {
	if want := config.SecretContext("acc_1", "wh_1", "sec_"); !strings.HasPrefix(string(associated), string(want)) {
		return nil, errors.New("does not open")
	}
	return sealed, nil
}

func newRegistry() (*registry.Registry, config.Handlers) {
	r := registry.New(registry.Options{Opener: opener{}, RetryScale: 1, DefaultTimeout: 20 * time.Second, DefaultMaxInFlight: 64})
	return r, r.Handlers()
}

func record(change func(*postriderv1.Webhook), secrets ...*recordv1.SealedSecret) *recordv1.Webhook {
	w := &postriderv1.Webhook{
		Id: "wh_1", AccountId: "acc_1", Url: "https://receiver.example/hook?token=abc&x", Profile: "standard",
		State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE,
	}
	if change != nil {
		change(w)
	}
	if secrets == nil {
		secrets = []*recordv1.SealedSecret{{Id: "sec_1", Ciphertext: []byte(signature.GenerateHMAC())}}
	}
	return &recordv1.Webhook{Webhook: w, Secrets: secrets}
}

func TestAWebhookIsPreparedFromItsConfiguration(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	h.Webhook(record(nil), 7)
	w := r.Webhook("wh_1")
	require.NotNil(t, w)
	require.Equal(t, uint64(7), w.Revision)
	require.Equal(t, 64, w.MaxInFlight())
	ready, err := w.Ready()
	require.NoError(t, err)
	require.Equal(t, "standard", ready.Profile.Name())
	require.Equal(t, 20*time.Second, ready.Timeout)
	require.Equal(t, "https://receiver.example/hook?token=***&x", ready.MaskedURL)
	require.Len(t, ready.Schedule.Delays, 9)
	require.Len(t, ready.Secrets(start), 1)
	require.Equal(t, 1, r.Size())

	h.Webhook(record(func(w *postriderv1.Webhook) {
		w.AttemptTimeout, w.MaxInFlight = durationpb.New(3*time.Second), 5
		w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Minute)}}
	}), 8)
	w = r.Webhook("wh_1")
	require.Equal(t, 5, w.MaxInFlight())
	ready, err = w.Ready()
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, ready.Timeout)
	require.Equal(t, []time.Duration{time.Minute}, ready.Schedule.Delays)
}

func TestSchedulesCanBeCompressed(t *testing.T) {
	t.Parallel()
	r := registry.New(registry.Options{Opener: opener{}, RetryScale: 0.001})
	r.Handlers().Webhook(record(nil), 1)
	ready, err := r.Webhook("wh_1").Ready()
	require.NoError(t, err)
	require.Equal(t, 5*time.Millisecond, ready.Schedule.Delays[0])
}

func TestOurOwnTroubleWithAWebhookIsAnError(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*recordv1.Webhook{
		"an unknown profile": record(func(w *postriderv1.Webhook) { w.Profile = "pigeon" }),
		"a URL without host": record(func(w *postriderv1.Webhook) { w.Url = "https:///x?token=hidden" }),
		"another scheme":     record(func(w *postriderv1.Webhook) { w.Url = "file:///etc/passwd?token=hidden" }),
		"not a URL":          record(func(w *postriderv1.Webhook) { w.Url = "https://a b/?token=hidden" }),
		"a schedule beyond its bounds": record(func(w *postriderv1.Webhook) {
			w.RetrySchedule = &postriderv1.RetrySchedule{Jitter: proto.Float64(2)}
		}),
		"a secret sealed for another place": record(nil, &recordv1.SealedSecret{Id: "other", Ciphertext: []byte("x")}),
		"a secret of the wrong form":        record(nil, &recordv1.SealedSecret{Id: "sec_1", Ciphertext: []byte("hidden")}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, h := newRegistry()
			h.Webhook(w, 1)
			_, err := r.Webhook("wh_1").Ready()
			require.ErrorContains(t, err, "prepare webhook wh_1: ")
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}

func TestSecretsThatExpiredDoNotSign(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	older, newer := signature.GenerateHMAC(), signature.GenerateHMAC()
	h.Webhook(record(nil,
		&recordv1.SealedSecret{Id: "sec_2", Ciphertext: []byte(newer)},
		&recordv1.SealedSecret{Id: "sec_1", Ciphertext: []byte(older), ExpireTime: timestamppb.New(start.Add(time.Hour))},
	), 1)
	ready, err := r.Webhook("wh_1").Ready()
	require.NoError(t, err)
	during, after := ready.Secrets(start), ready.Secrets(start.Add(time.Hour))
	require.Len(t, during, 2)
	require.Len(t, after, 1)
	require.Equal(t, during[0], after[0], "newest first")
}

func TestDeliveriesAreHeldWhileTheirWebhookIs(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	for state, want := range map[postriderv1.WebhookState]string{
		postriderv1.WebhookState_WEBHOOK_STATE_PAUSED:   "paused",
		postriderv1.WebhookState_WEBHOOK_STATE_DISABLED: "disabled",
	} {
		h.Webhook(record(func(w *postriderv1.Webhook) { w.State = state }), 1)
		reason, held := r.Webhook("wh_1").Held()
		require.True(t, held)
		require.Equal(t, want, reason)
	}
	h.Webhook(record(nil), 2)
	w := r.Webhook("wh_1")
	_, held := w.Held()
	require.False(t, held)
	require.True(t, begins(r, w, "dlv_1"))
	require.True(t, w.MarkGone())
	require.False(t, w.MarkGone())
	reason, held := w.Held()
	require.True(t, held)
	require.Equal(t, "gone", reason)
	require.False(t, begins(r, w, "dlv_1"))
	h.Webhook(record(nil), 3)
	_, held = r.Webhook("wh_1").Held()
	require.False(t, held, "the mark belongs to the revision")
}

func TestNothingBeginsOnWhatWasReplaced(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	h.Webhook(record(nil), 1)
	w := r.Webhook("wh_1")
	require.True(t, begins(r, w, "dlv_1"))

	h.Cancelled("acc_1", "dlv_1", 2)
	require.False(t, begins(r, w, "dlv_1"))
	_, cancelled := r.Find("wh_1", "dlv_1")
	require.True(t, cancelled)
	require.True(t, begins(r, w, "dlv_2"))
	h.CancelExpired("acc_1", "dlv_1", 3)
	require.True(t, begins(r, w, "dlv_1"))

	h.Webhook(record(nil), 4)
	require.False(t, begins(r, w, "dlv_1"))
	w = r.Webhook("wh_1")
	h.WebhookDeleted("acc_1", "wh_1", 5)
	require.False(t, begins(r, w, "dlv_1"))
	require.Nil(t, r.Webhook("wh_1"))

	h.Webhook(record(func(w *postriderv1.Webhook) { w.State = postriderv1.WebhookState_WEBHOOK_STATE_DELETED }), 6)
	require.Nil(t, r.Webhook("wh_1"))
}

func begins(r *registry.Registry, w *registry.Webhook, marks ...string) bool {
	_, ok := r.Begin(w, nil, marks...)
	return ok
}

// After a change's handler has returned, no beginning succeeds on what it replaced.
func TestAChangeAndBeginningsAreOrdered(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	h.Webhook(record(nil), 1)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for {
				w := r.Webhook("wh_1")
				if w == nil {
					return
				}
				r.Begin(w, nil, "dlv_1")
			}
		})
	}
	for revision := uint64(2); revision < 200; revision++ {
		before := r.Webhook("wh_1")
		h.Webhook(record(nil), revision)
		require.False(t, begins(r, before, "dlv_1"))
	}
	h.WebhookDeleted("acc_1", "wh_1", 200)
	workers.Wait()
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	r, h := newRegistry()
	h.Account(&recordv1.Account{Account: &postriderv1.Account{Id: "acc_1", TimeZone: "UTC"}}, 1)
	require.Equal(t, "UTC", r.Account("acc_1").Config.GetTimeZone())
	h.AccountDeleted("acc_1", 2)
	require.Nil(t, r.Account("acc_1"))
}

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://a.example/":                       "https://a.example/",
		"https://a.example:8443/x%20y":             "https://a.example:8443/x%20y",
		"http://a.example/?a=1&b=2&a=3":            "http://a.example/?a=***&b=***&a=***",
		"http://a.example/?flag&sender%5Bid%5D=17": "http://a.example/?flag&sender%5Bid%5D=***",
		"http://a.example/?k=v=w":                  "http://a.example/?k=***",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, registry.MaskURL(u))
	}
}

func TestAnAccountsLimitsAreSharedOutByItsActiveWebhooks(t *testing.T) {
	t.Parallel()
	shards := 4
	r := registry.New(registry.Options{Opener: opener{}, RetryScale: 1, Layout: func() postrider.Layout { return postrider.Layout{Shards: shards} }})
	h := r.Handlers()
	limits := func(most int32, rate float64) *recordv1.Account {
		return &recordv1.Account{Account: &postriderv1.Account{Id: "acc_1", MaxInFlight: most, RateLimit: rate}}
	}
	all := func(int) bool { return true }
	require.Zero(t, r.AccountLimits("acc_1", all), "an account that is not known")
	h.Account(limits(0, 0), 1)
	require.Zero(t, r.AccountLimits("acc_1", all))
	h.Account(limits(8, 40), 2)
	perShard := map[int]int{}
	put := func(id string, state postriderv1.WebhookState, revision uint64) {
		h.Webhook(record(func(w *postriderv1.Webhook) { w.Id, w.State = id, state }), revision)
	}
	const active, paused = postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE, postriderv1.WebhookState_WEBHOOK_STATE_PAUSED
	ids := []string{"wh_a", "wh_b", "wh_c", "wh_d", "wh_e", "wh_f", "wh_g", "wh_h"}
	for i, id := range ids {
		put(id, active, uint64(i)+3)
		perShard[postrider.ShardOf(postrider.WebhookID(id), shards)]++
	}
	require.Equal(t, registry.Limits{MaxInFlight: 8, Rate: 40}, r.AccountLimits("acc_1", all))
	for shard, n := range perShard {
		require.Equal(t, registry.Limits{MaxInFlight: n, Rate: float64(5 * n)}, r.AccountLimits("acc_1", func(s int) bool { return s == shard }))
	}
	// They are counted anew when there are other shards.
	shards = 1
	require.Equal(t, registry.Limits{MaxInFlight: 8, Rate: 40}, r.AccountLimits("acc_1", func(s int) bool { return s == 0 }))
	shards = 4
	// Those that are paused or gone leave their part to the others.
	one := postrider.ShardOf("wh_a", shards)
	for _, id := range ids[1:] {
		put(id, paused, 20)
		put(id, paused, 21)
	}
	require.Equal(t, registry.Limits{MaxInFlight: 8, Rate: 40}, r.AccountLimits("acc_1", func(s int) bool { return s == one }))
	h.WebhookDeleted("acc_1", "wh_a", 22)
	put("wh_b", active, 23)
	two := postrider.ShardOf("wh_b", shards)
	require.Equal(t, registry.Limits{MaxInFlight: 8, Rate: 40}, r.AccountLimits("acc_1", func(s int) bool { return s == two }))
}
