package lane_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/breaker"
	"github.com/postrider/postrider/services/dispatcher/internal/lane"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func config() *lane.Config {
	return &lane.Config{
		Initial: 8, ParkAfter: time.Second, SlowAfter: 250 * time.Millisecond,
		Breaker: breaker.Default(), Random: func() float64 { return 0.5 },
	}
}

func settings() lane.Settings {
	return lane.Settings{Revision: 1, MaxInFlight: 64, Timeout: 20 * time.Second}
}

// offer offers n deliveries, numbered from first, and sorts them by decision.
func offer(l *lane.Lane[int], now time.Time, first, n int) (run, queued []int, parked []lane.Parking[int]) {
	for i := first; i < first+n; i++ {
		switch d, _, p := l.Offer(now, i, false); d {
		case lane.Run:
			l.Sending(now)
			run = append(run, i)
		case lane.Queued:
			queued = append(queued, i)
		case lane.Park:
			parked = append(parked, p)
		}
	}
	return run, queued, parked
}

func TestWhatExceedsTheConcurrencyWaitsForATurn(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	run, queued, parked := offer(l, start, 0, 10)
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, run)
	require.Equal(t, []int{8, 9}, queued)
	require.Empty(t, parked)
	var m lane.Moves[int]
	l.Done(start.Add(time.Millisecond), lane.Result{Start: start, Succeeded: true}, &m)
	require.Equal(t, []lane.Ticket[int]{{Job: 8}, {Job: 9}}, m.Run, "one came back and the limit grew by one")
	require.Empty(t, m.Park)
}

func TestTheDeepBacklogOfAFastReceiverIsNotParked(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	run, queued, parked := offer(l, start, 0, 4096)
	require.Empty(t, parked)
	now, served := start, 0
	var m lane.Moves[int]
	for len(run) > 0 {
		now = now.Add(100 * time.Microsecond)
		l.Done(now, lane.Result{Start: now.Add(-3 * time.Millisecond), Succeeded: true}, &m)
		l.Tick(now, &m)
		served++
		run = run[1:]
		for _, ticket := range m.Run {
			run = append(run, ticket.Job)
		}
		require.Empty(t, m.Park, "after %d", served)
		m.Reset()
	}
	require.Equal(t, 8+len(queued), served)
}

func TestADispatcherThatWaitsItselfParksNothing(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	for i := range 4096 {
		d, _, _ := l.Offer(start, i, false)
		require.NotEqual(t, lane.Park, d)
	}
	var m lane.Moves[int]
	require.True(t, l.Tick(start.Add(time.Hour), &m), "nothing was sent")
	require.Empty(t, m.Park)
}

func TestABacklogBehindAReceiverThatHangsIsParkedSoon(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	_, queued, parked := offer(l, start, 0, 4096)
	require.Empty(t, parked)
	var m lane.Moves[int]
	l.Tick(start.Add(200*time.Millisecond), &m)
	require.Empty(t, m.Park, "a hiccup is not a hang")
	require.True(t, l.Tick(start.Add(300*time.Millisecond), &m))
	require.Greater(t, len(m.Park), len(queued)-300)
	require.Empty(t, m.Run)
	_, queued, parked = offer(l, start.Add(2*time.Second), 5000, 100)
	require.LessOrEqual(t, len(queued), 64)
	require.NotEmpty(t, parked)
	for _, p := range append(m.Park, parked...) {
		require.Equal(t, lane.ReasonConcurrency, p.Reason)
		require.True(t, p.Until.After(start.Add(time.Second)))
	}
}

// A backlog behind a receiver that answers nothing comes back the less often the longer that lasts.
func TestABacklogBehindAReceiverThatHangsIsLookedAtSeldom(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	offer(l, start, 0, 8)
	due := map[time.Time][]int{}
	const backlog, hangs = 100, 20 * time.Second
	parked := 0
	for now := start.Add(time.Second); now.Before(start.Add(hangs)); now = now.Add(time.Millisecond) {
		jobs := due[now]
		if now.Equal(start.Add(time.Second)) {
			for i := range backlog {
				jobs = append(jobs, 8+i)
			}
		}
		for _, job := range jobs {
			_, _, again := offer(l, now, job, 1)
			for _, p := range again {
				parked++
				at := p.Until.Truncate(time.Millisecond).Add(time.Millisecond)
				due[at] = append(due[at], job)
			}
		}
	}
	require.LessOrEqual(t, parked, 6*backlog, "after 1, 2, 4, 8 and 16 seconds")
	require.GreaterOrEqual(t, parked, backlog)
}

func TestParkedDeliveriesAreSpreadAtThePaceOfTheWebhook(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Rate = 10
	l := lane.New[int](config(), s, start)
	run, queued, parked := offer(l, start, 0, 1000)
	require.Len(t, run, 1)
	require.Len(t, queued, 10)
	require.Len(t, parked, 989)
	for i, p := range parked {
		require.Equal(t, lane.ReasonRate, p.Reason)
		require.Equal(t, start.Add(time.Second+time.Duration(i)*100*time.Millisecond+50*time.Millisecond), p.Until)
	}
}

func TestTheRateLetsQueuedDeliveriesGoAsTimePasses(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Rate = 10
	l := lane.New[int](config(), s, start)
	offer(l, start, 0, 5)
	var m lane.Moves[int]
	for i := range 4 {
		at := start.Add(time.Duration(i+1) * 100 * time.Millisecond)
		l.Tick(at.Add(-time.Millisecond), &m)
		require.Empty(t, m.Run)
		again := l.Tick(at, &m)
		require.Equal(t, []lane.Ticket[int]{{Job: i + 1}}, m.Run)
		require.Equal(t, i < 3, again)
		m.Reset()
	}
}

// trip fails attempts until the breaker opens, with 20 more deliveries queued.
func trip(t *testing.T, l *lane.Lane[int]) lane.Moves[int] {
	t.Helper()
	run, _, _ := offer(l, start, 0, 28)
	var m lane.Moves[int]
	left := len(run)
	for i := range 10 {
		require.Positive(t, left)
		state, changed := l.Done(start, lane.Result{Start: start}, &m)
		require.Equal(t, i == 9, changed)
		left += len(m.Run) - 1
		if i < 9 {
			m.Reset()
			continue
		}
		require.Equal(t, breaker.Open, state)
	}
	return m
}

func TestALaneShowsItself(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Rate = 100
	l := lane.New[int](config(), s, start)
	require.Equal(t, lane.View{Allowed: 8, MaxInFlight: 64, Rate: 100}, l.View(start))
	offer(l, start, 0, 10)
	require.Equal(t, lane.View{InFlight: 8, Queued: 2, Allowed: 8, MaxInFlight: 64, Rate: 100}, l.View(start))
	var m lane.Moves[int]
	until := start.Add(time.Minute)
	l.Done(start, lane.Result{Start: start, Overloaded: true, PauseUntil: until}, &m)
	require.Equal(t, lane.View{InFlight: 7, Failures: 1, Allowed: 4, MaxInFlight: 64, Rate: 100, PausedUntil: until}, l.View(start))
	require.Zero(t, l.View(until).PausedUntil)

	broken := lane.New[int](config(), settings(), start)
	trip(t, broken)
	v := broken.View(start)
	require.Equal(t, breaker.Open, v.Breaker)
	require.Equal(t, start, v.Opened)
	require.Equal(t, start.Add(5*time.Second), v.NextProbe)
}

func TestAnOpenBreakerParksTheQueueUntilTheProbe(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	m := trip(t, l)
	require.NotEmpty(t, m.Park)
	for _, p := range m.Park {
		require.Equal(t, lane.ReasonBreaker, p.Reason)
		require.False(t, p.Until.Before(start.Add(5*time.Second)))
	}
	d, _, p := l.Offer(start.Add(time.Second), 100, true)
	require.Equal(t, lane.Park, d)
	require.False(t, p.Until.Before(start.Add(5*time.Second)))

	later := start.Add(time.Minute)
	d, probe, _ := l.Offer(later, 101, true)
	require.Equal(t, lane.Run, d)
	require.True(t, probe)
	d, _, p = l.Offer(later, 102, true)
	require.Equal(t, lane.Park, d, "one probe at a time")
	require.False(t, p.Until.Before(later.Add(time.Second)))

	m.Reset()
	state, changed := l.Done(later, lane.Result{Start: later, Probe: true, Succeeded: true}, &m)
	require.True(t, changed)
	require.Equal(t, breaker.Closed, state)
	d, _, _ = l.Offer(later, 103, false)
	require.Equal(t, lane.Run, d)
}

func TestAProbeThatWasNotMadeLeavesItsPlaceToAnother(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	trip(t, l)
	later := start.Add(time.Minute)
	_, probe, _ := l.Offer(later, 101, true)
	require.True(t, probe)
	var m lane.Moves[int]
	l.Release(later, true, &m)
	d, probe, _ := l.Offer(later, 102, true)
	require.Equal(t, lane.Run, d)
	require.True(t, probe)
}

func TestRetryAfterPausesTheWholeWebhook(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	offer(l, start, 0, 20)
	until := start.Add(time.Hour)
	var m lane.Moves[int]
	l.Done(start, lane.Result{Start: start, PauseUntil: until}, &m)
	require.Len(t, m.Park, 12)
	d, _, p := l.Offer(start.Add(time.Minute), 100, false)
	require.Equal(t, lane.Park, d)
	for _, p := range append(m.Park, p) {
		require.Equal(t, lane.ReasonRetryAfter, p.Reason)
		require.False(t, p.Until.Before(until))
	}
	d, _, _ = l.Offer(until, 101, false)
	require.Equal(t, lane.Run, d)
}

func TestAnOverloadedReceiverGetsHalf(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	offer(l, start, 0, 12)
	var m lane.Moves[int]
	l.Done(start, lane.Result{Start: start, Overloaded: true}, &m)
	require.Empty(t, m.Run, "seven are out, four may be")
	for range 3 {
		l.Done(start, lane.Result{Start: start.Add(-time.Second), Overloaded: true}, &m)
	}
	require.Empty(t, m.Run, "the burst counts once")
	l.Done(start, lane.Result{Start: start, Succeeded: true}, &m)
	require.Len(t, m.Run, 1)
}

func TestRetriesAndFirstAttemptsTakeTurns(t *testing.T) {
	t.Parallel()
	s := settings()
	s.MaxInFlight = 1
	l := lane.New[int](config(), s, start)
	for i, retry := range []bool{false, false, false, false, true, true, true} {
		l.Offer(start, i, retry)
	}
	var order []int
	var m lane.Moves[int]
	for range 6 {
		l.Done(start, lane.Result{Start: start, Succeeded: true}, &m)
		order = append(order, m.Run[0].Job)
		m.Reset()
	}
	require.Equal(t, []int{1, 4, 2, 5, 3, 6}, order, "taking turns")
}

func TestAChangedConfigurationStartsAnew(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	trip(t, l)
	l.Configure(settings(), start)
	d, _, _ := l.Offer(start, 100, false)
	require.Equal(t, lane.Park, d, "the same revision changes nothing")
	s := settings()
	s.Revision, s.MaxInFlight = 2, 2
	l.Configure(s, start)
	var m lane.Moves[int]
	for range 7 { // What was in flight when the breaker opened.
		l.Done(start, lane.Result{Start: start, Succeeded: true}, &m)
	}
	run, queued, parked := offer(l, start, 101, 3)
	require.Len(t, run, 2)
	require.Len(t, queued, 1)
	require.Empty(t, parked)
}

func TestSlowLanesGiveWayWhenSlotsRunShort(t *testing.T) {
	t.Parallel()
	cfg := config()
	pressure := 0.8
	cfg.Pressure = func(string, bool) float64 { return pressure }
	unknown := lane.New[int](cfg, settings(), start)
	run, _, _ := offer(unknown, start, 0, 100)
	require.Len(t, run, 3)
	pressure = 0.9
	run, queued, parked := offer(lane.New[int](cfg, settings(), start), start, 0, 100)
	require.Empty(t, run, "the last slots are for lanes that are known to be fast")
	require.Empty(t, queued)
	require.Len(t, parked, 100)
	pressure = 0.2
	fast := lane.New[int](cfg, settings(), start)
	run, _, _ = offer(fast, start, 0, 4)
	var m lane.Moves[int]
	for range run {
		fast.Done(start, lane.Result{Start: start.Add(-time.Millisecond), Succeeded: true}, &m)
	}
	pressure = 0.99
	run, _, _ = offer(fast, start, 10, 100)
	require.Len(t, run, 12, "a lane that is known to be fast keeps its slots")
}

func TestARetryStormLeavesALanesFirstAttemptsAlone(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Pressure = func(_ string, retry bool) float64 {
		if retry {
			return 1
		}
		return 0
	}
	l := lane.New[int](cfg, settings(), start)
	d, _, _ := l.Offer(start, 1, true)
	require.Equal(t, lane.Park, d)
	d, _, _ = l.Offer(start, 2, false)
	require.Equal(t, lane.Run, d)
}

func TestAProcessThatRunsBehindParksLess(t *testing.T) {
	t.Parallel()
	parked := func(lag time.Duration) int {
		cfg := config()
		cfg.Lag = func() time.Duration { return lag }
		l := lane.New[int](cfg, settings(), start)
		run, _, _ := offer(l, start, 0, 8)
		var m lane.Moves[int]
		for range run { // Everything takes 100 ms, so that 640 a second are possible.
			l.Done(start, lane.Result{Start: start.Add(-100 * time.Millisecond), Succeeded: true}, &m)
		}
		_, _, parked := offer(l, start, 10, 5000)
		return len(parked)
	}
	require.Greater(t, parked(0), 4000)
	require.Zero(t, parked(10*time.Millisecond))
}

func TestWhatIsReleasedMakesRoom(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Rate = 1
	l := lane.New[int](config(), s, start)
	run, queued, _ := offer(l, start, 0, 2)
	require.Equal(t, []int{0}, run)
	require.Equal(t, []int{1}, queued)
	var m lane.Moves[int]
	l.Release(start, false, &m)
	require.Equal(t, []lane.Ticket[int]{{Job: 1}}, m.Run, "with the token that was not used")
}

func TestDrainTakesOutOfTheQueuesOnly(t *testing.T) {
	t.Parallel()
	l := lane.New[int](config(), settings(), start)
	offer(l, start, 0, 12)
	require.Equal(t, []int{8, 10}, l.Drain(func(i int) bool { return i%2 == 0 }))
	require.Equal(t, []int{9, 11}, l.Drain(func(int) bool { return true }))
	require.False(t, l.Idle(start.Add(time.Hour), start.Add(time.Hour)), "eight are in flight")
}

// Whatever happens, each delivery is run once or parked once, and never more are in flight than
// the webhook allows.
func TestNothingIsLostAndNothingIsDoubled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := lane.Settings{
			Revision: 1, MaxInFlight: rapid.IntRange(1, 20).Draw(t, "max"), Timeout: time.Second,
			Rate: rapid.SampledFrom([]float64{0, 0, 0.5, 20, 5000}).Draw(t, "rate"),
		}
		cfg := config()
		cfg.Breaker.Failures = rapid.IntRange(1, 12).Draw(t, "failures")
		l := lane.New[int](cfg, s, start)
		now, next := start, 0
		var running []lane.Ticket[int]
		ended := map[int]int{}
		var m lane.Moves[int]
		collect := func() {
			running = append(running, m.Run...)
			for _, p := range m.Park {
				if p.Until.Before(now) {
					t.Fatalf("parked until %s at %s", p.Until, now)
				}
				ended[p.Job]++
			}
			m.Reset()
			if len(running) > s.MaxInFlight {
				t.Fatalf("%d in flight of %d", len(running), s.MaxInFlight)
			}
		}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case what <= 1:
				for range rapid.IntRange(1, 30).Draw(t, "offers") {
					d, probe, p := l.Offer(now, next, rapid.Bool().Draw(t, "retry"))
					switch d {
					case lane.Run:
						m.Run = append(m.Run, lane.Ticket[int]{Job: next, Probe: probe})
					case lane.Park:
						m.Park = append(m.Park, p)
					case lane.Queued:
					}
					next++
				}
			case what == 2 || len(running) == 0:
				l.Tick(now, &m)
			default:
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				ticket := running[i]
				running = slices.Delete(running, i, i+1)
				ended[ticket.Job]++
				if what == 3 {
					l.Release(now, ticket.Probe, &m)
					break
				}
				l.Sending(now)
				r := lane.Result{Start: now.Add(-time.Millisecond), Probe: ticket.Probe}
				r.Succeeded = rapid.Bool().Draw(t, "succeeded")
				r.Overloaded = !r.Succeeded && rapid.Bool().Draw(t, "overloaded")
				if rapid.IntRange(0, 9).Draw(t, "pause") == 0 {
					r.PauseUntil = now.Add(time.Second)
				}
				l.Done(now, r, &m)
			}
			collect()
		}
		for _, ticket := range running {
			ended[ticket.Job]++
		}
		for _, job := range l.Drain(func(int) bool { return true }) {
			ended[job]++
		}
		for i := range next {
			if ended[i] != 1 {
				t.Fatalf("delivery %d came out %d times", i, ended[i])
			}
		}
	})
}
