package admission

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// crash publishes through a replica that dies at a seam, and returns once it is dead.
func crash(t *testing.T, b *bundle, r *Request, seam func(*seams, func() bool)) {
	t.Helper()
	a := b.replica(t)
	dead := make(chan struct{})
	seam(&a.seams, func() bool { close(dead); return true })
	require.NoError(t, a.Start(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := a.Accept(ctx, r)
		answered <- err
	}()
	<-dead
	cancel()
	require.ErrorIs(t, <-answered, context.Canceled, "the producer has no answer")
	require.Error(t, a.Stop(ctx), "something was still under way")
}

var crashes = map[string]func(*seams, func() bool){
	"after the claim":   func(s *seams, die func() bool) { s.afterClaim = die },
	"after the publish": func(s *seams, die func() bool) { s.afterPublish = die },
	"before the finish": func(s *seams, die func() bool) { s.beforeFinish = die },
}

func TestARepeatAfterACrashStoresTheEventOnce(t *testing.T) {
	t.Parallel()
	for name, seam := range crashes {
		for when, forgets := range map[string]bool{"while EVENTS remembers the message id": false, "long afterwards": true} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				cfg := patient()
				if forgets {
					cfg.MsgIDWindow = cfg.Takeover + 1 // every takeover looks into EVENTS first
				}
				b := setupHasty(t, cfg)
				crash(t, b, one(withKey("k")), seam)
				stored := b.record.all()
				if forgets {
					b.record.forget()
				}
				receipt := accept(t, b.start(t), one(withKey("k")))
				require.Len(t, b.record.all(), 1)
				require.Equal(t, b.record.all()[0].GetId(), receipt.GetEventId())
				require.Equal(t, uint64(1), receipt.GetSequence())
				require.Equal(t, len(stored) == 1, receipt.GetDuplicate())
				require.True(t, accept(t, b.start(t), one(withKey("k"))).GetDuplicate(), "and the key is finished")
			})
		}
	}
}

func TestATakeoverGoesOnWithTheFirstEventID(t *testing.T) {
	t.Parallel()
	b := setupHasty(t, patient())
	var first string
	a := b.replica(t)
	dead := make(chan struct{})
	a.seams.afterClaim = func() bool { close(dead); return true }
	e := a.take(one(withKey("k")), func(Verdict) {})
	first = string(postrider.EventIDOf(e.claim.Event))
	require.NoError(t, a.Start(t.Context()))
	a.submit(t.Context(), e)
	<-dead
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, a.Stop(ended))
	receipt := accept(t, b.start(t), one(withKey("k")))
	require.Equal(t, first, receipt.GetEventId())
	require.Equal(t, first, b.record.all()[0].GetId())
}

func TestAnotherBodyAfterACrash(t *testing.T) {
	t.Parallel()
	for name, seam := range crashes {
		for when, forgets := range map[string]bool{"while EVENTS remembers the message id": false, "long afterwards": true} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				cfg := patient()
				if forgets {
					cfg.MsgIDWindow = cfg.Takeover + 1
				}
				b := setupHasty(t, cfg)
				crash(t, b, one(withKey("k")), seam)
				stored := b.record.all()
				if forgets {
					b.record.forget()
				}
				a := b.start(t)
				if len(stored) == 0 {
					require.False(t, accept(t, a, one(withKey("k"), withData("2"))).GetDuplicate())
					require.Equal(t, "2", string(b.record.all()[0].GetData()))
					return
				}
				e := refused(t, a, one(withKey("k"), withData("2")), fault.AlreadyExists, ReasonConflict)
				require.Equal(t, stored[0].GetId(), e.Metadata["event_id"])
				require.Len(t, b.record.all(), 1)
				require.True(t, accept(t, a, one(withKey("k"))).GetDuplicate(), "the first body is the key's")
			})
		}
	}
}

func TestAClaimOfLongAgoThatStoredNothingIsBegunAnew(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.MsgIDWindow = cfg.Takeover + 1
	b := setupHasty(t, cfg)
	crash(t, b, one(withKey("k")), crashes["after the claim"])
	after := time.Now().Truncate(time.Millisecond)
	receipt := accept(t, b.start(t), one(withKey("k")))
	require.False(t, receipt.GetDuplicate())
	require.False(t, receipt.GetAcceptTime().AsTime().Before(after), "its id says when it was accepted now, so that it is found by its time")
	require.Positive(t, b.record.readCount())
}

func TestATakeoverThatCannotReadTheRecordIsNotAnswered(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.MsgIDWindow = cfg.Takeover + 1
	b := setupHasty(t, cfg)
	crash(t, b, one(withKey("k")), crashes["after the publish"])
	b.record.forget()
	b.record.change(func(r *record) { r.unread = errors.New("no answer") })
	a := b.start(t)
	refused(t, a, one(withKey("k")), fault.Unavailable, ReasonUnreadable)
	b.record.change(func(r *record) { r.unread = nil })
	require.True(t, accept(t, a, one(withKey("k"))).GetDuplicate())
	require.Len(t, b.record.all(), 1)
}

func TestAClaimThatWasTakenOverIsNotGivenUp(t *testing.T) {
	t.Parallel()
	b := setupHasty(t, patient())
	crash(t, b, one(withKey("k")), crashes["after the claim"])
	b.record.change(func(r *record) {
		r.answer = func(*recordv1.Event) (bool, error) { return false, stream.ErrFull }
	})
	a := b.start(t)
	e := &Request{Account: acc, Event: one().Event, IdempotencyKey: "k", FieldPrefix: "event."}
	refused(t, a, e, fault.Exhausted, ReasonFull)
	res := make([]dedup.Result, 1)
	b.index.Claim(t.Context(), []dedup.Claim{{Key: dedup.KeyOf(acc, "key:k"), Token: dedup.NewToken(), Window: time.Hour}}, res)
	require.NotEqual(t, dedup.Claimed, res[0].Outcome, "the one before may have stored it")
}

func TestAnEventWhoseFateIsUnknownKeepsItsKeyUntilItIsKnown(t *testing.T) {
	t.Parallel()
	for name, arrives := range map[string]bool{"it had arrived": true, "it had not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupHasty(t, patient())
			a := b.start(t)
			b.record.change(func(r *record) {
				r.answer = func(*recordv1.Event) (bool, error) { return arrives, stream.ErrUnknown }
			})
			refused(t, a, one(withKey("k")), fault.Unavailable, ReasonRecord)
			b.record.change(func(r *record) { r.answer = nil })
			receipt := accept(t, a, one(withKey("k")))
			require.Equal(t, arrives, receipt.GetDuplicate())
			require.Len(t, b.record.all(), 1)
			require.Equal(t, b.record.all()[0].GetId(), receipt.GetEventId())
		})
	}
}

func TestWhatWaitsTooLongIsAnswered(t *testing.T) {
	t.Parallel()
	a := setup(t, patient()).replica(t)
	now := time.Now()
	tests := map[string]struct {
		waited time.Duration
		tries  int
		gone   bool
		reason string // empty: goes on
	}{
		"for its first turn":                     {waited: a.cfg.PublishBudget},
		"for its first turn, too long":           {waited: a.cfg.PublishBudget + 1, reason: ReasonOverloaded},
		"for another holder":                     {waited: a.cfg.PublishBudget + 1, tries: 1},
		"for one holder after another":           {waited: a.holdLimit(), tries: 9},
		"for one holder after another, for ever": {waited: a.holdLimit() + 1, tries: 9, reason: ReasonKeyHeld},
		"for a producer who is gone":             {gone: true, reason: "CANCELLED"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got *Verdict
			e := a.take(one(withKey("k")), func(v Verdict) { got = &v })
			require.True(t, a.room.TryAcquire(e.weight) && a.enter(e))
			e.began, e.tries = now.Add(-tt.waited), tt.tries
			e.gone.Store(tt.gone)
			wanted := a.stillWanted([]*entry{e}, now)
			if tt.reason == "" {
				require.Equal(t, []*entry{e}, wanted)
				require.Nil(t, got)
				return
			}
			require.Empty(t, wanted)
			require.NotNil(t, got)
			if tt.gone {
				require.ErrorIs(t, got.Err, context.Canceled)
				return
			}
			isFault(t, got.Err, fault.Unavailable, tt.reason)
		})
	}
}

func TestAProducerThatLeavesWhileItWaitsForTheKeyPublishesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.start(t)
	hold := make(chan struct{})
	b.record.change(func(r *record) { r.hold = hold })
	first := make(chan *postriderv1.Receipt, 1)
	a.Submit(t.Context(), one(withKey("k")), func(v Verdict) { first <- v.Receipt })
	require.Eventually(t, func() bool { return len(b.record.all()) == 1 }, soon, tick)

	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := a.Accept(ctx, one(withKey("k")))
		gone <- err
	}()
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.inFlight == 2 }, soon, tick)
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.inFlight == 1 }, soon, tick)
	close(hold)
	require.False(t, (<-first).GetDuplicate())
	require.Len(t, b.record.all(), 1)
}

func TestTooMuchAtOnceIsRefusedBeforeAnythingIsStored(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.MaxDataBytes, cfg.MaxInFlightBytes, cfg.PublishBudget = 1<<10, 4<<10, 50*time.Millisecond
	b := setup(t, cfg)
	a := b.start(t)
	hold := make(chan struct{})
	b.record.change(func(r *record) { r.hold = hold })
	done := make(chan Verdict, 3)
	for range 3 { // a little over 1 KiB each
		a.Submit(t.Context(), one(), func(v Verdict) { done <- v })
	}
	refused(t, a, one(), fault.Unavailable, ReasonOverloaded)
	require.Len(t, b.record.all(), 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Accept(ctx, one())
	require.ErrorIs(t, err, context.Canceled)
	close(hold)
	for range 3 {
		require.NoError(t, (<-done).Err)
	}
}

func TestAnEventThatEventsDoesNotTakeInTimeIsGivenUpUnsent(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(*Request){"with a key": withKey("k"), "without": func(*Request) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := patient()
			cfg.Takeover = cfg.PublishBudget + 2*margin
			b := setup(t, cfg)
			a := b.start(t)
			b.record.change(func(r *record) { r.room = make(chan struct{}) })
			refused(t, a, one(key), fault.Unavailable, ReasonOverloaded)
			require.Empty(t, b.record.all())
			b.record.change(func(r *record) { r.room = nil })
			require.False(t, accept(t, a, one(key, withData("2"))).GetDuplicate(), "the key was free at once")
		})
	}
}

// A leader that is elected anew, or slow, keeps the accounts of its own segment waiting and no others.
func TestASegmentThatTakesNothingMoreKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	cfg := patient()
	for cfg.Segments = 2; postrider.SegmentOf(acc, cfg.Segments) == postrider.SegmentOf(oth, cfg.Segments); {
		cfg.Segments++
	}
	b := setup(t, cfg)
	a := b.start(t)
	room := make(chan struct{})
	b.record.change(func(r *record) { r.room, r.stuck = room, oth })
	waits := make(chan Verdict, 1)
	a.Submit(t.Context(), one(withKey("k"), func(r *Request) { r.Account = oth }), func(v Verdict) { waits <- v })
	require.Eventually(t, func() bool { b.record.mu.Lock(); defer b.record.mu.Unlock(); return b.record.asked == 1 }, soon, tick)
	for i := range 10 {
		accept(t, a, one(withKey(strconv.Itoa(i))))
	}
	require.Empty(t, waits)
	<-room
	require.NoError(t, (<-waits).Err)
}

func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.replica(t)
	require.NoError(t, a.Start(t.Context()))
	hold := make(chan struct{})
	b.record.change(func(r *record) { r.hold = hold })
	done := make(chan Verdict, 1)
	a.Submit(t.Context(), one(withKey("k")), func(v Verdict) { done <- v })
	require.Eventually(t, func() bool { return len(b.record.all()) == 1 }, soon, tick)
	stopped := make(chan error, 1)
	go func() { stopped <- a.Stop(t.Context()) }()
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.closed }, soon, tick)
	refused(t, a, one(), fault.Unavailable, ReasonStopping)
	close(hold)
	require.NoError(t, (<-done).Err)
	require.NoError(t, <-stopped)
	require.NoError(t, a.Stop(t.Context()), "twice is fine")
}

func TestStopWithoutStart(t *testing.T) {
	t.Parallel()
	require.NoError(t, setup(t, patient()).replica(t).Stop(t.Context()))
}

func TestStopDoesNotWaitForARecordThatIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, patient())
	a := b.replica(t)
	require.NoError(t, a.Start(t.Context()))
	hold := make(chan struct{})
	b.record.change(func(r *record) { r.hold = hold })
	verdicts := make(chan Verdict, 3)
	answer := func(v Verdict) { verdicts <- v }
	a.Submit(t.Context(), one(withKey("k")), answer)
	a.Submit(t.Context(), one(withKey("k")), answer) // waits for the first
	a.Submit(t.Context(), one(), answer)
	require.Eventually(t, func() bool { return len(b.record.all()) == 2 }, soon, tick)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Stop(ctx), context.Canceled)
	isFault(t, (<-verdicts).Err, fault.Unavailable, ReasonStopping) // the one that waited
	close(hold)
	// Acknowledgements that come after the end: the keyed event's claim is not finished any more.
	outcomes := []error{(<-verdicts).Err, (<-verdicts).Err}
	require.ElementsMatch(t, []bool{true, false}, []bool{outcomes[0] == nil, outcomes[1] == nil})
}
