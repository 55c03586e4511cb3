package index_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/router/internal/index"
)

const account = postrider.AccountID("acc_1")

func webhook(id string, patterns ...string) *postriderv1.Webhook {
	return &postriderv1.Webhook{Id: id, AccountId: string(account), EventTypes: patterns, State: postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE}
}

func put(x *index.Index, revision uint64, w *postriderv1.Webhook) {
	x.Put(&recordv1.Webhook{Webhook: w}, revision)
}

func event(eventType, data string) *match.Attributes {
	return &match.Attributes{
		Type: eventType, Time: time.Unix(1, 0), ContentType: "application/json",
		Labels: map[string]string{"project_id": "12"}, Data: func() []byte { return []byte(data) },
	}
}

func matched(r *index.Result) []string {
	ids := []string{}
	for _, h := range r.Matched {
		ids = append(ids, string(h.ID))
	}
	slices.Sort(ids)
	return ids
}

func TestMatchSaysWhichWebhooksWantAnEventAndWhyTheOthersDoNot(t *testing.T) {
	t.Parallel()
	x := index.New()
	put(x, 1, webhook("wh_exact", "release.live"))
	put(x, 2, webhook("wh_below", "release.*"))
	put(x, 3, webhook("wh_all", "*"))
	put(x, 4, webhook("wh_other", "track.uploaded"))
	filtered := webhook("wh_filter_no", "release.live")
	filtered.Filter = `data.title == "other"`
	put(x, 5, filtered)
	failing := webhook("wh_filter_error", "release.live")
	failing.Filter = `data.missing.deeper == 1`
	put(x, 6, failing)
	scoped := webhook("wh_scopes", "release.live")
	scopes, err := structpb.NewStruct(map[string]any{"project_id": []any{13}})
	require.NoError(t, err)
	scoped.Scopes = scopes
	put(x, 7, scoped)
	broken := webhook("wh_broken", "release.live")
	broken.Filter = `this is not CEL (`
	put(x, 8, broken)
	paused := webhook("wh_paused", "release.live")
	paused.State = postriderv1.WebhookState_WEBHOOK_STATE_PAUSED
	put(x, 9, paused)

	var r index.Result
	x.Match(account, event("release.live", `{"title":"mine"}`), &r)
	require.Equal(t, []string{"wh_all", "wh_below", "wh_exact", "wh_paused"}, matched(&r), "a paused webhook still gets its delivery, which is held")
	require.Equal(t, 9, r.Total)
	reasons := map[string]string{}
	for _, u := range r.Unmatched {
		reasons[string(u.Hook.ID)] = u.Reason
	}
	require.Equal(t, map[string]string{
		"wh_other": index.ReasonEventType, "wh_filter_no": index.ReasonFilter, "wh_filter_error": index.ReasonFilterError,
		"wh_scopes": index.ReasonScopes, "wh_broken": index.ReasonFilterError,
	}, reasons)

	explained, total := x.Explain(account, event("release.live", `{"title":"mine"}`), 1000)
	require.Equal(t, 9, total)
	require.Len(t, explained, 9)
	for _, e := range explained {
		require.Equal(t, e.Matched, slices.Contains(matched(&r), string(e.Hook.ID)), e.Hook.ID)
		require.Equal(t, reasons[string(e.Hook.ID)], e.Reason, e.Hook.ID)
	}
}

func TestAnotherAccountsWebhooksAreNeverMatched(t *testing.T) {
	t.Parallel()
	x := index.New()
	put(x, 1, webhook("wh_1", "*"))
	var r index.Result
	x.Match("acc_2", event("release.live", `{}`), &r)
	require.Empty(t, r.Matched)
	require.Zero(t, r.Total)
}

func TestALateChangeNeverReplacesALaterOne(t *testing.T) {
	t.Parallel()
	x := index.New()
	put(x, 5, webhook("wh_1", "release.*"))
	put(x, 4, webhook("wh_1", "track.*"))
	x.Delete(account, "wh_1", 3)
	var r index.Result
	x.Match(account, event("release.live", `{}`), &r)
	require.Equal(t, []string{"wh_1"}, matched(&r))
	x.Delete(account, "wh_1", 6)
	x.Match(account, event("release.live", `{}`), &r)
	require.Empty(t, r.Matched)
	require.Zero(t, x.Len())
}

func TestMatchAgreesWithTryingEveryWebhook(t *testing.T) {
	t.Parallel()
	patterns := rapid.SliceOfN(rapid.SampledFrom([]string{"*", "a.*", "a.b", "a.b.*", "a.b.c", "b", "b.*", "a.c"}), 1, 4)
	types := rapid.SampledFrom([]string{"a", "a.b", "a.b.c", "a.b.c.d", "b", "b.c", "c"})
	rapid.Check(t, func(rt *rapid.T) {
		x := index.New()
		naive := map[string][]string{}
		for step, steps := uint64(1), rapid.Uint64Range(1, 60).Draw(rt, "steps"); step <= steps; step++ {
			n := rapid.IntRange(0, 9).Draw(rt, "webhook")
			id := fmt.Sprintf("wh_%d", n)
			if n >= 3 {
				id = string(postrider.WebhookIDOf(ulid.ULID{15: byte(n)}))
			}
			switch rapid.SampledFrom([]string{"put", "delete", "match"}).Draw(rt, "what") {
			case "delete":
				delete(naive, id)
				x.Delete(account, postrider.WebhookID(id), step)
			case "put":
				naive[id] = patterns.Draw(rt, "patterns")
				put(x, step, webhook(id, naive[id]...))
			default:
				requireNaive(rt, x, naive, types.Draw(rt, "type"))
			}
		}
		requireNaive(rt, x, naive, types.Draw(rt, "type"))
	})
}

// requireNaive holds a match against trying every webhook.
func requireNaive(rt *rapid.T, x *index.Index, naive map[string][]string, eventType string) {
	want, others := []string{}, []string{}
	for id, texts := range naive {
		wants := slices.ContainsFunc(texts, func(text string) bool {
			p, err := match.ParsePattern(text)
			require.NoError(rt, err)
			return p.Match(eventType)
		})
		if wants {
			want = append(want, id)
		} else {
			others = append(others, id)
		}
	}
	slices.Sort(want)
	var r index.Result
	x.Match(account, event(eventType, `{}`), &r)
	require.Equal(rt, want, matched(&r))
	require.Equal(rt, len(naive), r.Total)
	require.ElementsMatch(rt, others, unmatched(&r))
}

// unmatched is the ids of the webhooks that do not want the event.
func unmatched(r *index.Result) (ids []string) {
	for _, u := range r.Unmatched {
		ids = append(ids, string(u.Hook.ID))
	}
	for id := range slices.Chunk(r.OtherTypes, len(ulid.ULID{})) {
		ids = append(ids, string(postrider.WebhookIDOf(ulid.ULID(id))))
	}
	return ids
}

func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	x := index.New()
	for n := range byte(250) {
		put(x, uint64(n)+1, webhook(string(postrider.WebhookIDOf(ulid.ULID{15: n})), "track.live"))
	}
	for n := range 50 {
		w := webhook(fmt.Sprintf("wh_%d", n), "release.*")
		w.Filter = "false"
		put(x, uint64(n)+1000, w)
	}
	for n := range 100 { // of many types, the reasons of which are not all kept
		var r index.Result
		x.Match(account, event(fmt.Sprintf("release.%d", n), `{}`), &r)
		require.Len(t, r.Unmatched, 50, "the filters' come first")
		require.NotEmpty(t, r.OtherTypes)
		require.LessOrEqual(t, len(unmatched(&r)), index.MaxUnmatched)
		require.Equal(t, 300, r.Total)
	}
}

// The index's promise: an account of 10 000 webhooks, among 100 000 in all, matches in
// microseconds.
func BenchmarkMatch(b *testing.B) {
	x := index.New()
	revision := uint64(0)
	for acc := range 10 {
		for i := range 10_000 {
			revision++
			w := webhook(fmt.Sprintf("wh_%d_%d", acc, i), fmt.Sprintf("type%d.live", i/3))
			w.AccountId = fmt.Sprintf("acc_%d", acc)
			put(x, revision, w)
		}
	}
	a := event("type77.live", `{}`)
	var r index.Result
	b.ReportAllocs()
	for b.Loop() {
		x.Match(account, a, &r)
	}
	require.Len(b, r.Matched, 3)
}
