package pace_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream/pace"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

const patience = 30 * time.Second

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func meter(t *testing.T, server *natstest.Server, stage, instance string) *pace.Meter {
	t.Helper()
	m := pace.NewMeter(server.Connect(t), stage, instance, logtest.New(t))
	t.Cleanup(m.Close)
	return m
}

func listen(t *testing.T, server *natstest.Server) *pace.Listener {
	t.Helper()
	nc := server.Connect(t)
	l, err := pace.Listen(nc)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	require.NoError(t, nc.Flush())
	return l
}

// until takes messages until the listener knows of a lateness that fits.
func until(t *testing.T, l *pace.Listener, take func(), fits func(late time.Duration) bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		take()
		select {
		case <-l.Heard():
			if late, _, known := l.Late(time.Now()); known && fits(late) {
				return
			}
		case <-time.After(time.Millisecond):
		case <-deadline.C:
			late, _, known := l.Late(time.Now())
			t.Fatalf("late is %s, known %t", late, known)
		}
	}
}

func between(least, most time.Duration) func(time.Duration) bool {
	return func(late time.Duration) bool { return late >= least && late <= most }
}

// What always passes between storing and taking, and the difference of two clocks, is no lateness; what
// comes on top of it is.
func TestLatenessCountsFromTheLeastWait(t *testing.T) {
	t.Parallel()
	for name, least := range map[string]time.Duration{"a slow disk": 20 * time.Millisecond, "a clock that is behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t)
			l, m := listen(t, server), meter(t, server, pace.Dispatcher, "one")
			until(t, l, func() { m.Took("A", "acc_1", start, start.Add(least)) }, between(0, 0))
			until(t, l, func() { m.Took("A", "acc_1", start, start.Add(least+30*time.Millisecond)) }, between(29*time.Millisecond, 31*time.Millisecond))
			until(t, l, func() {
				m.Took("A", "acc_1", start, start.Add(least+30*time.Millisecond))
				m.Waited(50 * time.Millisecond)
			}, between(79*time.Millisecond, 81*time.Millisecond))
			until(t, l, func() { m.Took("A", "acc_1", start, start.Add(least)) }, between(0, 0))
		})
	}
}

// By Little's law, what waits is what is taken a second times how late it is.
func TestWhatWaitsFollowsFromLateness(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l, m := listen(t, server), meter(t, server, pace.Dispatcher, "one")
	m.Took("A", "acc_1", start, start)
	require.Eventually(t, func() bool {
		for range 10 {
			m.Took("A", "acc_1", start, start.Add(time.Second))
		}
		late, waiting, known := l.Late(time.Now())
		return known && late > 900*time.Millisecond && waiting > 100
	}, patience, time.Millisecond)
}

// The later stage counts; at a stage, every message that is taken.
func TestLatenessIsThatOfTheLaterStage(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l := listen(t, server)
	router := meter(t, server, pace.Router, "name.with dots")
	one, two := meter(t, server, pace.Dispatcher, "one"), meter(t, server, pace.Dispatcher, "two")
	for _, m := range []*pace.Meter{router, one, two} {
		m.Took("A", "acc_1", start, start)
	}
	until(t, l, func() {
		router.Took("A", "acc_1", start, start.Add(10*time.Millisecond))
		one.Took("A", "acc_1", start, start.Add(100*time.Millisecond))
		two.Took("A", "acc_1", start, start)
		two.Took("A", "acc_1", start, start)
		two.Took("A", "acc_1", start, start)
	}, between(15*time.Millisecond, 45*time.Millisecond))
	until(t, l, func() { router.Took("A", "acc_1", start, start.Add(500*time.Millisecond)) }, between(499*time.Millisecond, 501*time.Millisecond))
}

func TestWithoutReportsNothingIsKnown(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l, m := listen(t, server), meter(t, server, pace.Router, "one")
	_, _, known := l.Late(time.Now())
	require.False(t, known)
	until(t, l, func() { m.Took("A", "acc_1", start, start) }, between(0, 0))
	_, _, known = l.Late(time.Now().Add(time.Minute))
	require.False(t, known, "an old report says nothing")
	require.NoError(t, server.Connect(t).Publish("pace.router.one", []byte("no report")))
	m.Close()
	m.Took("A", "acc_1", start, start) // It is closed, and says no more.
}

// A clock that is stepped, here or at the server that leads the stream, makes nothing late, in whichever direction; what
// is late afterwards is late.
func TestASteppedClockMakesNothingLate(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour, "a little": 5 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t)
			l, m := listen(t, server), meter(t, server, pace.Router, "one")
			now, off := start, time.Duration(0)
			take := func(late time.Duration) {
				now = now.Add(time.Millisecond)
				m.Took("A", "acc_1", now.Add(off-late), now)
			}
			highest := time.Duration(0)
			fits := func(late time.Duration) bool {
				highest = max(highest, late)
				return true
			}
			until(t, l, func() { take(0) }, fits)
			for range 2 { // there and back
				for range 20 {
					take(0)
				}
				step, off = -step, off+step
				for range 3 {
					until(t, l, func() { take(0) }, fits)
				}
			}
			require.LessOrEqual(t, highest, time.Millisecond)
			late := time.Duration(0)
			until(t, l, func() {
				late = min(late+time.Millisecond, 50*time.Millisecond)
				take(late)
			}, between(49*time.Millisecond, 50*time.Millisecond))
		})
	}
}

// Servers that lead streams have clocks of their own.
func TestEachStreamHasItsClock(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l, m := listen(t, server), meter(t, server, pace.Dispatcher, "one")
	both := func(late time.Duration) func() {
		return func() {
			m.Took("A", "acc_1", start, start.Add(late))
			m.Took("B", "acc_1", start.Add(time.Second), start.Add(late))
		}
	}
	until(t, l, both(0), between(0, 0))
	until(t, l, both(20*time.Millisecond), between(19*time.Millisecond, 21*time.Millisecond))
}

// One is alone while nothing of another was taken for ten seconds, anywhere.
func TestWhoIsAlone(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l, router, dispatcher := listen(t, server), meter(t, server, pace.Router, "one"), meter(t, server, pace.Dispatcher, "one")
	require.False(t, l.Alone(time.Now()), "nothing is known")
	take := func(m *pace.Meter, account string) func() {
		return func() { m.Took("A", account, time.Now(), time.Now()) }
	}
	heard := func(take func(), alone bool) time.Time {
		t.Helper()
		var at time.Time
		until(t, l, take, func(time.Duration) bool {
			at = time.Now()
			return l.Alone(at) == alone
		})
		return at
	}
	heard(take(router, "acc_1"), true)
	heard(take(dispatcher, "acc_1"), true)
	at := heard(take(dispatcher, "acc_2"), false)
	heard(take(router, "acc_1"), false)
	require.False(t, l.Alone(at.Add(9*time.Second)))
	require.False(t, l.Alone(time.Now().Add(11*time.Second)), "nothing is taken at all")
}

// An instance of a version that does not say of whom messages were may have taken them of anybody.
func TestWhoDoesNotSayOfWhomItTookIsNotAlone(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	l, m, nc := listen(t, server), meter(t, server, pace.Router, "new"), server.Connect(t)
	until(t, l, func() { m.Took("A", "acc_1", time.Now(), time.Now()) }, func(time.Duration) bool { return l.Alone(time.Now()) })
	until(t, l, func() { require.NoError(t, nc.Publish("pace.router.old", []byte(`{"late":1,"rate":1}`))) },
		func(time.Duration) bool { return !l.Alone(time.Now()) })
}
