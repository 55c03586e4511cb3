package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest/internal/dedup"
	"github.com/postrider/postrider/services/ingest/internal/fair"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestDataIsStoredByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	tests := map[string]struct{ contentType, data string }{
		"the order of members stays":          {"", `{"b":1,"a":2,"b2":{"z":1,"y":2}}`},
		"big numbers stay":                    {"application/json", `{"n":9007199254740993,"f":0.1000,"e":1E400}`},
		"markup is not escaped":               {"application/vnd.api+json; charset=utf-8", `"<&>"`},
		"escapes stay as they were written":   {"", `"\u003c\/\ud83d\ude00\ud800"`},
		"UTF-8 stays":                         {"", `{"名前":"渚 🎵 é"}`},
		"duplicate members stay":              {"", `{"a":1,"a":2}`},
		"white space and a newline stay":      {"", " {\r\n\t\"a\" : 1 }\n"},
		"bytes that are no text stay":         {"application/octet-stream", "\x00\xff\xfe\n\x80"},
		"nothing stays nothing":               {"text/plain", ""},
		"JSON of another type is not touched": {"text/plain", `{"b":1, "a":2}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			receipt := accept(t, a, one(withData(tt.data), withEvent(func(ev *postriderv1.EventInput) { ev.ContentType = tt.contentType })))
			ev, err := a.Read(t.Context(), acc, postrider.EventID(receipt.GetEventId()), receipt.GetSequence())
			require.NoError(t, err)
			require.Equal(t, tt.data, string(ev.GetData()))
			want := tt.contentType
			if want == "" {
				want = DefaultContentType
			}
			require.Equal(t, want, ev.GetContentType())
		})
	}
}

func TestAReceiptNamesWhatIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	before := time.Now().Add(-time.Millisecond)
	receipt := accept(t, a, one(withKey("k")))
	require.True(t, postrider.EventID(receipt.GetEventId()).Valid())
	require.Equal(t, uint64(1), receipt.GetSequence())
	require.False(t, receipt.GetDuplicate())
	require.Equal(t, postriderv1.DedupWindow_DEDUP_WINDOW_FULL, receipt.GetDedupWindow())
	require.WithinRange(t, receipt.GetAcceptTime().AsTime(), before, time.Now())

	stored := b.record.all()[0]
	require.Equal(t, receipt.GetEventId(), stored.GetId())
	require.Equal(t, receipt.GetAcceptTime().AsTime(), stored.GetAcceptTime().AsTime())
	require.Equal(t, stored.GetAcceptTime().AsTime(), stored.GetTime().AsTime(), "the default of time")
	require.Equal(t, "key:k", stored.GetDedupKey())
	require.Len(t, stored.GetFingerprint(), 16)
}

func TestRepeatsGetTheFirstReceiptAndOtherBodiesAConflict(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*Request){
		"by idempotency key":             withKey("k"),
		"by source and id":               withID("//shop", "42"),
		"by id without a source":         withID("", "42"),
		"the idempotency key goes first": func(r *Request) { withKey("k")(r); withID("//shop", "42")(r) },
	}
	for name, key := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, patient())
			a := b.start(t)
			first := accept(t, a, one(key))
			again := accept(t, a, one(key))
			require.True(t, again.GetDuplicate())
			require.Equal(t, first.GetEventId(), again.GetEventId())
			require.Equal(t, first.GetSequence(), again.GetSequence())
			require.Equal(t, first.GetAcceptTime().AsTime(), again.GetAcceptTime().AsTime())
			e := refused(t, a, one(key, withData(`{"n":2}`)), fault.AlreadyExists, ReasonConflict)
			require.Equal(t, first.GetEventId(), e.Metadata["event_id"])
			require.Len(t, b.record.all(), 1)
		})
	}
}

func TestKeysOfOthersAreNothingToUs(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	keys := []func(*Request){withKey("42"), withID("", "42"), withID("a", "42"), withID("a4", "2")}
	for _, key := range keys {
		require.False(t, accept(t, a, one(key)).GetDuplicate())
		require.False(t, accept(t, a, one(key, func(r *Request) { r.Account = oth })).GetDuplicate())
	}
	require.Len(t, b.record.all(), 2*len(keys))
}

func TestWithoutAKeyNothingIsDeduplicated(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	for range 2 {
		receipt := accept(t, a, one())
		require.False(t, receipt.GetDuplicate())
		require.Equal(t, postriderv1.DedupWindow_DEDUP_WINDOW_NONE, receipt.GetDedupWindow())
	}
	require.Len(t, b.record.all(), 2)
}

func TestFiftyAtOnceStoreOneEvent(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	replicas := []*Admission{b.start(t), b.start(t), b.start(t)}
	receipts := make([]*postriderv1.Receipt, 50)
	var all sync.WaitGroup
	for i := range receipts {
		all.Go(func() {
			receipt, err := replicas[i%3].Accept(t.Context(), one(withKey("k")))
			if err == nil {
				receipts[i] = receipt
			}
		})
	}
	all.Wait()
	first := 0
	for _, r := range receipts {
		require.NotNil(t, r)
		require.Equal(t, receipts[0].GetEventId(), r.GetEventId())
		if !r.GetDuplicate() {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Len(t, b.record.all(), 1)
}

func TestABatchHasAVerdictForEach(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	accept(t, a, one(withKey("earlier")))
	verdicts := a.AcceptAll(t.Context(), []*Request{
		one(),
		one(withKey("earlier")),
		one(withKey("earlier"), withData("2")),
		one(withEvent(func(ev *postriderv1.EventInput) { ev.Type = "" })),
		one(withKey("twice")),
		one(withKey("twice")),
	})
	require.NoError(t, verdicts[0].Err)
	require.True(t, verdicts[1].Receipt.GetDuplicate())
	isFault(t, verdicts[2].Err, fault.AlreadyExists, ReasonConflict)
	isFault(t, verdicts[3].Err, fault.Invalid, "INVALID_ARGUMENT")
	require.Equal(t, verdicts[4].Receipt.GetEventId(), verdicts[5].Receipt.GetEventId())
	require.NotEqual(t, verdicts[4].Receipt.GetDuplicate(), verdicts[5].Receipt.GetDuplicate())
	require.Len(t, b.record.all(), 3)
	require.Empty(t, a.AcceptAll(t.Context(), nil))
}

func TestBatchesLargerThanTheRoomDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.MaxDataBytes, cfg.MaxInFlightBytes = 1<<10, 8<<10
	b := setup(t, cfg)
	a := b.start(t)
	data := `"` + strings.Repeat("x", 900) + `"`
	var all sync.WaitGroup
	for n := range 4 {
		reqs := make([]*Request, 50)
		for i := range reqs {
			reqs[i] = one(withKey(fmt.Sprintf("%d-%d", n, i)), withData(data))
		}
		all.Go(func() {
			for _, v := range a.AcceptAll(t.Context(), reqs) {
				if v.Err != nil {
					t.Error(v.Err)
				}
			}
		})
	}
	all.Wait()
	require.Len(t, b.record.all(), 200)
}

func TestAFullRecordIsSaidAndTheKeyIsFree(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(*Request){"with a key": withKey("k"), "without": func(*Request) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, patient())
			a := b.start(t)
			b.record.change(func(r *record) {
				r.answer = func(*recordv1.Event) (bool, error) { return false, stream.ErrFull }
			})
			e := refused(t, a, one(key), fault.Exhausted, ReasonFull)
			require.Positive(t, e.RetryAfter)
			b.record.change(func(r *record) { r.answer = nil })
			require.False(t, accept(t, a, one(key, withData("2"))).GetDuplicate())
		})
	}
}

func TestWhatTheRecordAnswersIsSaidAsItIs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		kind   fault.Kind
		reason string
		free   bool // the key may be used for another body at once
	}{
		"too large":                        {stream.ErrTooLarge, fault.Invalid, "INVALID_ARGUMENT", true},
		"refused":                          {stream.ErrRefused, fault.Unavailable, ReasonRecord, true},
		"nobody listened":                  {stream.ErrUnavailable, fault.Unavailable, ReasonRecord, true},
		"full, after a try without answer": {errors.Join(stream.ErrUnknown, stream.ErrFull), fault.Unavailable, ReasonRecord, false},
		"no answer":                        {stream.ErrUnknown, fault.Unavailable, ReasonRecord, false},
		"closed in the middle":             {errors.Join(stream.ErrUnknown, stream.ErrClosed), fault.Unavailable, ReasonRecord, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, patient())
			a := b.start(t)
			b.record.change(func(r *record) { r.answer = func(*recordv1.Event) (bool, error) { return false, tt.err } })
			refused(t, a, one(withKey("k")), tt.kind, tt.reason)
			b.record.change(func(r *record) { r.answer = nil })
			res := make([]dedup.Result, 1)
			b.index.Claim(t.Context(), []dedup.Claim{{
				Key: dedup.KeyOf(acc, "key:k"), Token: dedup.NewToken(), Window: time.Hour,
			}}, res)
			want := dedup.Pending
			if tt.free {
				want = dedup.Claimed
			}
			require.Equal(t, want, res[0].Outcome)
		})
	}
}

func TestAnEventThatEventsKnowsIsComparedBeforeItIsAnsweredFor(t *testing.T) {
	t.Parallel()
	t.Run("the same is a duplicate", func(t *testing.T) {
		t.Parallel()
		b := setup(t, patient())
		first := accept(t, b.start(t), one(withKey("k")))
		forgetful := setup(t, patient()) // an index that lost everything
		forgetful.record = b.record
		again := accept(t, forgetful.start(t), one(withKey("k")))
		require.True(t, again.GetDuplicate())
		require.Equal(t, first.GetEventId(), again.GetEventId())
		require.Equal(t, first.GetSequence(), again.GetSequence())
	})
	t.Run("another body is a conflict, and the index learns what is stored", func(t *testing.T) {
		t.Parallel()
		b := setup(t, patient())
		first := accept(t, b.start(t), one(withKey("k")))
		forgetful := setup(t, patient())
		forgetful.record = b.record
		a := forgetful.start(t)
		for range 2 {
			e := refused(t, a, one(withKey("k"), withData("2")), fault.AlreadyExists, ReasonConflict)
			require.Equal(t, first.GetEventId(), e.Metadata["event_id"])
		}
		require.Equal(t, 1, b.record.readCount(), "the second time the index knows")
		require.True(t, accept(t, a, one(withKey("k"))).GetDuplicate())
	})
	t.Run("what cannot be read is not answered for", func(t *testing.T) {
		t.Parallel()
		b := setup(t, patient())
		accept(t, b.start(t), one(withKey("k")))
		forgetful := setup(t, patient())
		forgetful.record = b.record
		b.record.change(func(r *record) { r.unread = errors.New("no answer") })
		refused(t, forgetful.start(t), one(withKey("k")), fault.Unavailable, ReasonUnreadable)
	})
	t.Run("our own, whose first acknowledgement was lost, is no duplicate", func(t *testing.T) {
		t.Parallel()
		b := setup(t, patient())
		a := b.replica(t)
		a.events = &doublePublisher{record: b.record}
		require.NoError(t, a.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })
		for _, key := range []func(*Request){withKey("k"), func(*Request) {}} {
			receipt := accept(t, a, one(key))
			require.False(t, receipt.GetDuplicate())
			require.Equal(t, b.record.all()[receipt.GetSequence()-1].GetId(), receipt.GetEventId())
		}
		require.Len(t, b.record.all(), 2)
	})
}

func TestDegradedWindowsAreSaid(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	tests := map[string]dedup.Index{
		"the index is away":          &brokenIndex{Index: b.index, blind: true},
		"the finish does not arrive": &brokenIndex{Index: b.index, unfinished: true},
	}
	for name, index := range tests {
		t.Run(name, func(t *testing.T) {
			broken := *b
			broken.index = index
			receipt := accept(t, broken.start(t), one(withKey(strings.ReplaceAll(name, " ", "-"))))
			require.Equal(t, postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED, receipt.GetDedupWindow())
		})
	}
}

func TestPoliciesForUnknownEventTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	b.dir.PutEventType(&recordv1.EventType{EventType: &postriderv1.EventType{AccountId: string(acc), Name: "release.live"}})
	unknown := withEvent(func(ev *postriderv1.EventInput) { ev.Type = "release.dead" })

	require.Empty(t, accept(t, a, one(unknown)).GetWarnings(), "allowed by default")
	b.dir.PutAccount(accountWith(postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_WARN, 0))
	require.Equal(t, []string{`the event type "release.dead" is not in the account's catalogue`}, accept(t, a, one(unknown)).GetWarnings())
	require.Empty(t, accept(t, a, one()).GetWarnings())
	b.dir.PutAccount(accountWith(postriderv1.UnknownTypePolicy_UNKNOWN_TYPE_POLICY_REJECT, 0))
	refused(t, a, one(unknown), fault.Invalid, ReasonUnknownEventType)
	accept(t, a, one())
	b.dir.DeleteEventType(acc, "release.live")
	refused(t, a, one(), fault.Invalid, ReasonUnknownEventType)
}

func TestAccountsThatAreNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	fresh := true
	b.dir.fresh = func() bool { return fresh }
	a := b.start(t)
	b.dir.DeleteAccount(oth)
	e := refused(t, a, one(func(r *Request) { r.Account = oth }), fault.NotFound, access.ReasonAccountNotFound)
	require.Equal(t, string(oth), e.Metadata["account_id"])
	fresh = false
	refused(t, a, one(func(r *Request) { r.Account = oth }), fault.Unavailable, ReasonStale)
}

func TestTheWindowIsTheAccounts(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	require.Equal(t, 24*time.Hour, b.dir.Window(acc))
	b.dir.PutAccount(accountWith(0, time.Minute))
	require.Equal(t, time.Minute, b.dir.Window(acc))
	b.dir.PutAccount(accountWith(0, 48*time.Hour))
	require.Equal(t, 24*time.Hour, b.dir.Window(acc))
	require.Equal(t, 24*time.Hour, b.dir.Window("acc_unknown"))
}

func TestReadingAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	first, second := accept(t, a, one()), accept(t, a, one())
	id := postrider.EventID(first.GetEventId())
	for name, sequence := range map[string]uint64{"by its sequence": 1, "by its id": 0, "with another's sequence": second.GetSequence(), "with a sequence of long ago": 99} {
		ev, err := a.Read(t.Context(), acc, id, sequence)
		require.NoError(t, err, name)
		require.Equal(t, first.GetEventId(), ev.GetId(), name)
		require.Equal(t, uint64(1), ev.GetSequence(), name)
	}
	_, err := a.Read(t.Context(), oth, id, 1)
	isFault(t, err, fault.NotFound, ReasonEventNotFound)
	_, err = a.Read(t.Context(), acc, postrider.NewEventID(), 0)
	isFault(t, err, fault.NotFound, ReasonEventNotFound)
	b.record.change(func(r *record) { r.unread = errors.New("no answer") })
	for _, sequence := range []uint64{0, 1} {
		_, err = a.Read(t.Context(), acc, id, sequence)
		isFault(t, err, fault.Unavailable, ReasonRecord)
	}
}

func TestAnEventOverItsShareLeavesItsKeyFree(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	first := accept(t, a, one(withKey("kept")))
	// Much waits and hardly anything passes: a share is an event in seconds.
	b.gate.Turn(time.Now().Add(time.Second), []fair.Stage{{}})
	b.gate.Turn(time.Now().Add(2*time.Second), []fair.Stage{{Waiting: 100_000, Passed: 1}})
	require.True(t, b.gate.State().Limiting)
	var over string
	for n := 0; over == ""; n++ {
		key := withKey(fmt.Sprintf("k%d", n))
		if _, err := a.Accept(t.Context(), one(key)); err != nil {
			e := isFault(t, err, fault.Exhausted, ReasonShare)
			require.Positive(t, e.RetryAfter)
			over = fmt.Sprintf("k%d", n)
		}
	}
	stored := len(b.record.all())

	b.gate.Unknown(time.Now().Add(3 * time.Second)) // as if it could not be asked: everybody may publish
	require.Len(t, b.record.all(), stored, "nothing was stored of what was refused")
	require.False(t, accept(t, a, one(withKey(over), withData(`"another body"`))).GetDuplicate())
	again := accept(t, a, one(withKey("kept")))
	require.True(t, again.GetDuplicate())
	require.Equal(t, first.GetEventId(), again.GetEventId())
}

func TestWhatIsCounted(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Default(), "ingest")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	b := setup(t, patient())
	a, err := New(b.cfg, Deps{Events: b.record, Index: b.index, Directory: b.dir, Gate: b.gate, Logger: logtest.New(t), Telemetry: tel})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })
	accept(t, a, one(withKey("k")))
	accept(t, a, one(withKey("k")))
	refused(t, a, one(withKey("k"), withData("2")), fault.AlreadyExists, ReasonConflict)
	refused(t, a, one(withData("x")), fault.Invalid, "INVALID_ARGUMENT")
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, line := range []string{
		`postrider_ingest_events_total{account_class="standard",outcome="accepted"} 1`,
		`postrider_ingest_events_total{account_class="standard",outcome="duplicate"} 1`,
		`postrider_ingest_events_total{account_class="standard",outcome="rejected",reason="IDEMPOTENCY_CONFLICT"} 1`,
		`postrider_ingest_events_total{account_class="standard",outcome="rejected",reason="INVALID_ARGUMENT"} 1`,
		`postrider_ingest_acceptance_duration_seconds_count{account_class="standard",outcome="accepted"} 1`,
		`postrider_ingest_dedup_claims_total{outcome="claimed"} 1`,
		`postrider_ingest_dedup_claims_total{outcome="duplicate"} 1`,
		`postrider_ingest_dedup_claims_total{outcome="conflict"} 1`,
		`postrider_ingest_dedup_degraded 0`,
		`postrider_ingest_inflight 0`,
		`postrider_ingest_backpressure_active 0`,
		`postrider_ingest_inflight_bytes 0`,
	} {
		require.Contains(t, w.Body.String(), line)
	}
}
