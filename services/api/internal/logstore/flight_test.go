package logstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// eventAt is the id of an event that was accepted at a time; n tells those of one time apart.
func eventAt(t time.Time, n int) postrider.EventID {
	u := ulid.ULID{}
	_ = u.SetTime(ulid.Timestamp(t))
	u[14], u[15] = byte(n>>8), byte(n)
	return postrider.EventIDOf(u)
}

// accepted is the journal of an event for one webhook, up to a state.
func accepted(id postrider.EventID, state postrider.DeliveryState, routed *recordv1.Routed) []*recordv1.JournalEntry {
	when, _ := id.Time()
	delivery := string(postrider.DeliveryIDFor(id, "wh_1", ""))
	routed.Deliveries = []*recordv1.RoutedDelivery{{DeliveryId: delivery, WebhookId: "wh_1"}}
	routed.AcceptTime, routed.MatchedTotal = timestamppb.New(when), 1
	list := []*recordv1.JournalEntry{{
		Time: timestamppb.New(when), AccountId: string(account), EventId: string(id), EventType: "release.live",
		What: &recordv1.JournalEntry_Routed{Routed: routed},
	}}
	if state != postrider.Pending {
		list = append(list, &recordv1.JournalEntry{
			Time: timestamppb.New(when.Add(time.Second)), AccountId: string(account), EventId: string(id), EventType: "release.live",
			DeliveryId: delivery, WebhookId: "wh_1", CreateTime: timestamppb.New(when),
			What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
				AttemptId: "att_" + string(id)[4:], Number: 1, StartTime: timestamppb.New(when.Add(time.Second)), Outcome: "succeeded", StatusCode: 200,
				State: string(state), Trigger: "schedule", RequestBody: []byte("secret"), ResponseBody: []byte("thanks"),
			}},
		})
	}
	return list
}

func testAnEventIsFoundByWhatItWasPublishedWith(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	keyed, own, plain := eventAt(start, 1), eventAt(start, 2), eventAt(start.Add(time.Hour), 3)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	entries := slices.Concat(
		accepted(keyed, postrider.Delivered, &recordv1.Routed{DedupKey: "key:order-1", Traceparent: "00-" + trace + "-b7ad6b7169203331-01", DedupWindow: postriderv1.DedupWindow_DEDUP_WINDOW_FULL}),
		accepted(own, postrider.Delivered, &recordv1.Routed{DedupKey: "id:shop\x00order-1"}),
		accepted(plain, postrider.Pending, &recordv1.Routed{Unmatched: []*recordv1.Unmatched{{WebhookId: "wh_2", Reason: "filter"}}, UnmatchedTotal: 1}),
	)
	require.NoError(t, s.Apply(t.Context(), entries))
	find := func(q logstore.EventQuery) (ids []postrider.EventID) {
		q.Account, q.Limit = account, 10
		page, err := s.RecordedEvents(t.Context(), q)
		require.NoError(t, err)
		for _, e := range page {
			ids = append(ids, postrider.EventID(e.ID))
		}
		return ids
	}
	require.Equal(t, []postrider.EventID{plain, own, keyed}, find(logstore.EventQuery{}))
	require.Equal(t, []postrider.EventID{own, keyed}, find(logstore.EventQuery{Key: "order-1"}))
	require.Equal(t, []postrider.EventID{keyed}, find(logstore.EventQuery{TraceID: trace}))
	require.Equal(t, []postrider.EventID{plain}, find(logstore.EventQuery{Start: start.Add(time.Minute)}))
	require.Equal(t, []postrider.EventID{own, keyed}, find(logstore.EventQuery{End: start.Add(time.Minute)}))
	require.Equal(t, []postrider.EventID{keyed}, find(logstore.EventQuery{Before: string(own)}))
	require.Empty(t, find(logstore.EventQuery{EventType: "another"}))
	require.Empty(t, find(logstore.EventQuery{Unmatched: true}))
	e, err := s.Event(t.Context(), account, string(keyed))
	require.NoError(t, err)
	require.Equal(t, start, e.AcceptTime)
	require.Equal(t, "key:order-1", e.Routed.GetDedupKey())
	require.Equal(t, postriderv1.DedupWindow_DEDUP_WINDOW_FULL, e.Routed.GetDedupWindow())
	_, err = s.Event(t.Context(), "acc_2", string(keyed))
	require.ErrorIs(t, err, logstore.ErrNotFound)
	delivery, when, err := s.AttemptOwner(t.Context(), account, "att_"+string(keyed)[4:])
	require.NoError(t, err)
	require.Equal(t, string(postrider.DeliveryIDFor(keyed, "wh_1", "")), delivery)
	require.Equal(t, start.Add(time.Second), when)
	_, _, err = s.AttemptOwner(t.Context(), "acc_2", "att_"+string(keyed)[4:])
	require.ErrorIs(t, err, logstore.ErrNotFound)
}

func testMovesAreListedOnceInOrder(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	h := history(1)
	require.NoError(t, s.Apply(t.Context(), append(h[3:5], h[2])))
	require.NoError(t, s.Apply(t.Context(), h))
	moves, err := s.Moves(t.Context(), account, h[1].GetDeliveryId(), 10)
	require.NoError(t, err)
	var got []string
	for _, m := range moves {
		got = append(got, string(m.State)+" "+m.Reason)
	}
	require.Equal(t, []string{"held paused", "pending resumed", "cancelled request"}, got)
	moves, err = s.Moves(t.Context(), "acc_2", h[1].GetDeliveryId(), 10)
	require.NoError(t, err)
	require.Empty(t, moves)
}

func testWhatIsExpungedIsGoneAndStaysKnown(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	id := eventAt(start, 1)
	entries := accepted(id, postrider.Delivered, &recordv1.Routed{})
	entries = append(entries, &recordv1.JournalEntry{
		Time: at(time.Hour), AccountId: string(account), EventId: string(id), EventType: "release.live",
		What: &recordv1.JournalEntry_Expunged{Expunged: &recordv1.Expunged{Reason: "request"}},
	})
	slices.Reverse(entries)
	require.NoError(t, s.Apply(t.Context(), entries))
	n, err := s.Redact(t.Context(), "acc_2", string(id))
	require.NoError(t, err)
	require.Zero(t, n, "of another account")
	for _, want := range []int{1, 0} {
		n, err := s.Redact(t.Context(), account, string(id))
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	list, err := s.Attempts(t.Context(), account, string(postrider.DeliveryIDFor(id, "wh_1", "")), 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Empty(t, list[0].Record.GetRequestBody())
	require.Empty(t, list[0].Record.GetResponseBody())
	require.EqualValues(t, 200, list[0].Record.GetStatusCode())
	e, err := s.Event(t.Context(), account, string(id))
	require.NoError(t, err)
	require.Equal(t, start.Add(time.Hour), e.ExpungeTime)
	require.Equal(t, start, e.AcceptTime)
}

// What has ended goes, what has not stays, and the ledger counts what is left.
func testWhatIsOldAndEndedExpires(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	old, waiting, young := eventAt(start, 1), eventAt(start, 2), eventAt(start.Add(72*time.Hour), 3)
	emptied := eventAt(start.Add(-48*time.Hour), 4) // alone in its day
	entries := slices.Concat(
		accepted(old, postrider.Delivered, &recordv1.Routed{}), accepted(waiting, postrider.Waiting, &recordv1.Routed{}),
		accepted(young, postrider.Delivered, &recordv1.Routed{}), accepted(emptied, postrider.Dead, &recordv1.Routed{}),
	)
	test := accepted(waiting, postrider.Delivered, &recordv1.Routed{})[1]
	test.DeliveryId, test.GetAttempted().Trigger, test.GetAttempted().AttemptId = "dlv_test", logstore.TriggerTest, "att_"+string(eventAt(start, 9))[4:]
	entries = append(entries, test)
	require.NoError(t, s.Apply(t.Context(), entries))
	before := start.Add(48 * time.Hour)
	require.NoError(t, s.Prune(t.Context(), before))
	for more := true; more; {
		var err error
		more, err = s.Expire(t.Context(), account, before)
		require.NoError(t, err)
	}
	owners := make(map[string]string)
	for _, id := range []postrider.EventID{old, waiting, young, emptied} {
		owners[string(id)] = string(account)
	}
	known, err := s.Events(t.Context(), owners)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{string(waiting): true, string(young): true}, known)
	ledger, err := s.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, ledger[account].Routed)
	require.EqualValues(t, 1, ledger[account].In[postrider.Waiting])
	require.EqualValues(t, 1, ledger[account].In[postrider.Delivered])
	require.Zero(t, ledger[account].In[postrider.Dead])
	_, _, err = s.AttemptOwner(t.Context(), account, "att_"+string(old)[4:])
	require.ErrorIs(t, err, logstore.ErrNotFound)
	_, _, err = s.AttemptOwner(t.Context(), account, "att_"+string(waiting)[4:])
	require.NoError(t, err)
	_, _, err = s.AttemptOwner(t.Context(), account, test.GetAttempted().GetAttemptId())
	require.ErrorIs(t, err, logstore.ErrNotFound, "of a test")
	require.NoError(t, s.Apply(t.Context(), accepted(emptied, postrider.Dead, &recordv1.Routed{})), "what comes again is recorded again")
}

func testALogThatWasDroppedSaysSoUntilItIsComplete(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Apply(t.Context(), history(1)))
	was := s.Token()
	require.NoError(t, s.Reset(t.Context()))
	require.NotEqual(t, was, s.Token())
	require.Negative(t, s.Incomplete())
	_, err := s.Deliveries(t.Context(), logstore.Query{Account: account, Limit: 1})
	require.ErrorIs(t, err, logstore.ErrRebuilding)
	_, err = s.Ledger(t.Context())
	require.ErrorIs(t, err, logstore.ErrRebuilding)
	require.NoError(t, s.SetIncomplete(t.Context(), was, 0))
	require.Negative(t, s.Incomplete(), "of another token")
	require.NoError(t, s.SetIncomplete(t.Context(), s.Token(), 0))
	page, err := s.Deliveries(t.Context(), logstore.Query{Account: account, Limit: 1})
	require.NoError(t, err)
	require.Empty(t, page)
	ledger, err := s.Ledger(t.Context())
	require.NoError(t, err)
	require.Empty(t, ledger)
}

// Whatever is recorded between two pages: what was there from the first page on is listed once.
func testPagesNeitherRepeatNorSkipWhileRowsArrive(t *testing.T, open opener) {
	t.Helper()
	t.Parallel()
	s := open(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		who := postrider.AccountID(fmt.Sprintf("acc_%d", n))
		of := func(entries []*recordv1.JournalEntry) []*recordv1.JournalEntry {
			for _, e := range entries {
				e.AccountId = string(who)
			}
			return entries
		}
		var all [][]*recordv1.JournalEntry
		for i := range rapid.IntRange(1, 12).Draw(rt, "events") {
			offset := time.Duration(rapid.IntRange(0, 5).Draw(rt, "second")) * time.Second
			all = append(all, of(accepted(eventAt(start.Add(offset), n<<5|i), postrider.Delivered, &recordv1.Routed{})))
		}
		// Of each event nothing, the attempt alone, or both are there at first, and the rest comes later.
		var later []*recordv1.JournalEntry
		there := map[string]bool{}
		for _, entries := range all {
			switch rapid.IntRange(0, 2).Draw(rt, "there") {
			case 0:
				later = append(later, entries...)
			case 1:
				require.NoError(rt, s.Apply(t.Context(), entries[1:]))
				there[entries[1].GetDeliveryId()] = true
				later = append(later, entries[0])
			case 2:
				require.NoError(rt, s.Apply(t.Context(), entries))
				there[entries[1].GetDeliveryId()] = true
			}
		}
		later = rapid.Permutation(later).Draw(rt, "order")
		seen := map[string]int{}
		q := logstore.Query{Account: who, Limit: rapid.IntRange(1, 4).Draw(rt, "size")}
		for {
			page, err := s.Deliveries(t.Context(), q)
			require.NoError(rt, err)
			for _, d := range page {
				seen[d.ID]++
			}
			if len(page) < q.Limit {
				break
			}
			q.After = logstore.Cursor{CreateTime: page[len(page)-1].CreateTime, ID: page[len(page)-1].ID}
			cut := rapid.IntRange(0, len(later)).Draw(rt, "arrive")
			require.NoError(rt, s.Apply(t.Context(), later[:cut]))
			later = later[cut:]
		}
		for id, times := range seen {
			require.Equal(rt, 1, times, id)
		}
		for id := range there {
			require.Equal(rt, 1, seen[id], id)
		}
	})
}
