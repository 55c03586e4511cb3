package ingest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/telemetry"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/ingest/internal/admission"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestAnEventIsAcceptedAndReadBackByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := b.start(t, ingest.NewMemoryDedup())
	require.NoError(t, in.Ready())
	for _, data := range []string{
		`{"b":1,"a":2,"n":9007199254740993,"s":"<&>","u":"渚"}` + "\n", `"` + strings.Repeat("x", 1<<20-2) + `"`,
	} {
		receipt := b.publish(t, in, "", data)
		for _, sequence := range []uint64{receipt.GetSequence(), 0} {
			res, err := in.events.GetEvent(as(t.Context(), b.key), &postriderv1.GetEventRequest{EventId: receipt.GetEventId(), Sequence: sequence})
			require.NoError(t, err)
			require.Equal(t, data, string(res.GetEvent().GetData()))
			require.Equal(t, receipt.GetSequence(), res.GetEvent().GetSequence())
		}
	}
}

func TestAnEventOverHTTPIsTheSameEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := b.start(t, ingest.NewMemoryDedup())
	call := func(method, target, body string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+b.key)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		in.http.ServeHTTP(w, r)
		return w
	}
	var got struct{ Receipt struct{ EventID string } }
	data := `{ "b":1, "n":9007199254740993 }`
	w := call(http.MethodPost, "/v1/events", `{"type":"release.live","data":`+data+`}`, "Idempotency-Key", `"k"`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	over := b.publish(t, in, "k", data)
	require.True(t, over.GetDuplicate(), "the same key and body over gRPC")
	require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(w.Body.String(), "event_id", "EventID")), &got))
	require.Equal(t, over.GetEventId(), got.Receipt.EventID)

	w = call(http.MethodPost, "/v1/events", "other", "Idempotency-Key", "k", "Content-Type", "text/plain",
		"ce-specversion", "1.0", "ce-id", "1", "ce-source", "s", "ce-type", "release.live")
	require.Equal(t, http.StatusConflict, w.Code)
	require.Contains(t, w.Body.String(), admission.ReasonConflict)

	w = call(http.MethodGet, "/v1/events/"+over.GetEventId(), "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), `"sequence":"1"`)
}

func TestFiftyAtOnceOverThreeIngestsStoreOneEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// Each has a window of its own, so EVENTS alone tells them apart.
	fifty(t, b, []*ingestOf{b.start(t, ingest.NewMemoryDedup()), b.start(t, ingest.NewMemoryDedup()), b.start(t, ingest.NewMemoryDedup())})
}

// fifty publishes one key fifty times at once and checks that there is one event, and no error.
func fifty(t *testing.T, b *bench, replicas []*ingestOf) {
	t.Helper()
	before := b.stored(t)
	key := "fifty-" + strconv.Itoa(before)
	receipts, errs := make([]*postriderv1.Receipt, 50), make([]error, 50)
	var all sync.WaitGroup
	for i := range receipts {
		all.Go(func() {
			res, err := replicas[i%len(replicas)].events.PublishEvent(as(t.Context(), b.key), requestOf(key, "1"))
			receipts[i], errs[i] = res.GetReceipt(), err
		})
	}
	all.Wait()
	first := 0
	for i, r := range receipts {
		require.NoError(t, errs[i])
		require.Equal(t, receipts[0].GetEventId(), r.GetEventId())
		require.Equal(t, receipts[0].GetSequence(), r.GetSequence())
		require.Equal(t, receipts[0].GetAcceptTime().AsTime(), r.GetAcceptTime().AsTime())
		if !r.GetDuplicate() {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Equal(t, before+1, b.stored(t))
}

func TestBatchesAndStreamsOfManyEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := b.start(t, ingest.NewMemoryDedup(), func(c *ingest.Config) { c.StreamWindow = 64 })
	const all = 1000
	reqs := make([]*postriderv1.PublishEventRequest, all)
	for i := range reqs {
		reqs[i] = requestOf("batch-"+strconv.Itoa(i), strconv.Itoa(i))
	}
	res, err := in.events.BatchPublishEvents(as(t.Context(), b.key), &postriderv1.BatchPublishEventsRequest{Requests: reqs})
	require.NoError(t, err)
	for i, v := range res.GetVerdicts() {
		ev, err := b.events.Get(t.Context(), b.account, v.GetReceipt().GetSequence())
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), string(ev.GetData()), "verdicts keep the order of requests")
	}
	require.Equal(t, all, b.stored(t))

	stream, err := in.events.StreamEvents(as(t.Context(), b.key))
	require.NoError(t, err)
	sent := make(chan error, 1)
	go func() {
		for i := range uint64(2 * all) { // the first thousand repeat the batch
			n := strconv.FormatUint(i, 10)
			if err := stream.Send(&postriderv1.StreamEventsRequest{Tag: i, Request: requestOf("batch-"+n, n)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	duplicates := 0
	for range 2 * all {
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, answer.GetVerdict().GetReceipt(), "%v", answer)
		if answer.GetVerdict().GetReceipt().GetDuplicate() {
			duplicates++
			require.Less(t, answer.GetTag(), uint64(all))
		}
	}
	require.NoError(t, <-sent)
	require.Equal(t, all, duplicates)
	require.Equal(t, 2*all, b.stored(t))
}

func TestOtherAccountsSeeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, otherKey := b.newAccount(t, postrider.ScopePublish, postrider.ScopeRead)
	in := b.start(t, ingest.NewMemoryDedup())
	receipt := b.publish(t, in, "k", "1")
	_, err := in.events.GetEvent(as(t.Context(), otherKey), &postriderv1.GetEventRequest{EventId: receipt.GetEventId(), Sequence: receipt.GetSequence()})
	isFault(t, err, fault.NotFound, admission.ReasonEventNotFound)
	_, err = in.events.GetEvent(as(t.Context(), otherKey), &postriderv1.GetEventRequest{EventId: receipt.GetEventId(), AccountId: string(b.account)})
	isFault(t, err, fault.NotFound, access.ReasonAccountNotFound)
	res, err := in.events.PublishEvent(as(t.Context(), otherKey), requestOf("k", "2"))
	require.NoError(t, err)
	require.False(t, res.GetReceipt().GetDuplicate(), "the same key is another one there")
	req := requestOf("k", "2")
	req.AccountId = string(other)
	res, err = in.events.PublishEvent(as(t.Context(), adminKey), req)
	require.NoError(t, err)
	require.True(t, res.GetReceipt().GetDuplicate(), "an admin names the account")
	req.AccountId = string(postrider.NewAccountID())
	_, err = in.events.PublishEvent(as(t.Context(), adminKey), req)
	isFault(t, err, fault.NotFound, access.ReasonAccountNotFound)
}

func TestKeysAndAccountsAreFollowedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := b.start(t, ingest.NewMemoryDedup())
	barrier := config.NewBarrier(b.client(t), logtest.New(t))
	t.Cleanup(func() { require.NoError(t, barrier.Stop(t.Context())) })
	account, key := b.newAccount(t, postrider.ScopePublish)
	require.Eventually(t, func() bool {
		_, err := in.events.PublishEvent(as(t.Context(), key), requestOf("", "1"))
		return err == nil
	}, soon, tick)
	rev, err := b.store.DeleteAccount(t.Context(), string(account), 0)
	require.NoError(t, err)
	require.NoError(t, barrier.Confirm(t.Context(), config.BucketAccounts, rev))
	_, err = in.events.PublishEvent(as(t.Context(), key), requestOf("", "1"))
	isFault(t, err, fault.NotFound, access.ReasonAccountNotFound)
}

func TestAFullRecordRefusesAndLeavesTheKeyFree(t *testing.T) {
	t.Parallel()
	b := setup(t, func(_ *stream.Config, e *eventstream.Config) { e.MaxBytes = 256 << 10 })
	in := b.start(t, ingest.NewMemoryDedup())
	large := `"` + strings.Repeat("x", 60<<10) + `"`
	accepted := 0
	require.Eventually(t, func() bool {
		_, err := in.events.PublishEvent(as(t.Context(), b.key), requestOf("fill-"+strconv.Itoa(accepted), large))
		if err == nil {
			accepted++
			return false
		}
		isFault(t, err, fault.Exhausted, admission.ReasonFull)
		return true
	}, soon, time.Millisecond)
	require.Equal(t, accepted, b.stored(t))
	require.NoError(t, b.events.Of(b.account).Trim(t.Context(), 3))
	receipt := b.publish(t, in, "fill-"+strconv.Itoa(accepted), `"other"`)
	require.False(t, receipt.GetDuplicate(), "the key was given up")
}

func TestWhileNATSIsAwayProducersAreToldSoInTime(t *testing.T) {
	t.Parallel()
	b := setup(t, func(s *stream.Config, _ *eventstream.Config) {
		s.PublishTimeout, s.PublishBudget = 500*time.Millisecond, 2*time.Second
	})
	in := b.start(t, ingest.NewMemoryDedup(), func(c *ingest.Config) { c.Takeover = 5 * time.Second })
	b.publish(t, in, "before", "1")
	b.server.Stop()
	b.refused(t, in, "k", "1", fault.Unavailable, admission.ReasonRecord)
	b.refused(t, in, "", "1", fault.Unavailable, admission.ReasonRecord)
	b.server.Restart(t)
	var receipt *postriderv1.Receipt
	require.Eventually(t, func() bool {
		res, err := in.events.PublishEvent(as(t.Context(), b.key), requestOf("k", "1"))
		receipt = res.GetReceipt()
		return err == nil
	}, soon, 10*time.Millisecond)
	again := b.publish(t, in, "k", "1")
	require.True(t, again.GetDuplicate())
	require.Equal(t, receipt.GetEventId(), again.GetEventId())
	require.True(t, b.publish(t, in, "before", "1").GetDuplicate())
	found := 0
	require.NoError(t, b.events.Scan(t.Context(), time.Time{}, eachKey("key:k", &found)))
	require.Equal(t, 1, found, "however often it was tried")
}

func TestARestartKeepsTheWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var first *postriderv1.Receipt
	t.Run("before", func(t *testing.T) { first = b.publish(t, b.start(t, ingest.NewMemoryDedup()), "k", "1") })
	in := b.start(t, ingest.NewMemoryDedup())
	again := b.publish(t, in, "k", "1")
	require.True(t, again.GetDuplicate())
	require.Equal(t, first.GetEventId(), again.GetEventId())
	require.Eventually(t, func() bool {
		return b.publish(t, in, "k", "1").GetDedupWindow() == postriderv1.DedupWindow_DEDUP_WINDOW_FULL
	}, soon, tick)
	b.refused(t, in, "k", "2", fault.AlreadyExists, admission.ReasonConflict)
}

func TestAnIngestThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	deps := func() ingest.Deps {
		return ingest.Deps{
			Streams: b.client(t), Events: b.events, Dedup: ingest.NewMemoryDedup(), Instance: "i",
			Logger: logtest.New(t), Telemetry: telemetry.Noop(),
		}
	}
	cfg := ingest.Default()
	require.NoError(t, cfg.Validate())
	svc, err := ingest.New(cfg, deps())
	require.NoError(t, err)
	require.NoError(t, svc.Stop(t.Context()), "without a start")
	require.Error(t, svc.Ready())
	for name, change := range map[string]func(*ingest.Config, *ingest.Deps){
		"takeover above the window of message ids": func(c *ingest.Config, _ *ingest.Deps) { c.Takeover = 3 * time.Minute },
		"takeover below the publish budget":        func(c *ingest.Config, _ *ingest.Deps) { c.Takeover = time.Second },
		"a window longer than events are kept":     func(c *ingest.Config, _ *ingest.Deps) { c.DedupWindow = 30 * 24 * time.Hour },
		"no keys in memory":                        func(c *ingest.Config, _ *ingest.Deps) { c.DedupMaxKeys = 0 },
		"no instance":                              func(_ *ingest.Config, d *ingest.Deps) { d.Instance = "" },
		"no dedup":                                 func(_ *ingest.Config, d *ingest.Deps) { d.Dedup = ingest.Dedup{} },
		"no room":                                  func(c *ingest.Config, _ *ingest.Deps) { c.MaxInFlight = 1 },
	} {
		cfg, d := ingest.Default(), deps()
		change(&cfg, &d)
		_, err := ingest.New(cfg, d)
		require.Error(t, err, name)
	}
}
