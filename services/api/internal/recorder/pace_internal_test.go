package recorder

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/lag"
)

func TestABusyRecorderGathersForLonger(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	p := newPace()
	step := func(after time.Duration, entries int) {
		now = now.Add(after)
		p.recorded(entries, now)
	}
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "the first entry is written at once")
	step(0, 1)
	require.Equal(t, idleFor, p.wait(now))
	for range 50 {
		step(20*time.Millisecond, 10)
	}
	require.Equal(t, idleFor, p.wait(now), "half of what makes it busy")
	for range 50 {
		step(20*time.Millisecond, 40)
	}
	require.Equal(t, busyFor, p.wait(now))
	now = now.Add(busyFor - 50*time.Millisecond)
	require.Equal(t, 50*time.Millisecond, p.wait(now))
	now = now.Add(time.Hour)
	require.LessOrEqual(t, p.wait(now), time.Duration(0), "what comes after a pause is written at once")
	step(0, 500)
	require.Equal(t, idleFor, p.wait(now), "many at once in an hour are no load")
}

// machine is a clock and a load that a test moves.
type machine struct{ now Load }

func (m *machine) load() Load { return m.now }

// spend lets a transaction of 1000 entries take a time, of which it has a processor for cpu and waits for one for
// waited.
func (m *machine) spend(p *pace, took, cpu, waited time.Duration) {
	p.begin()
	m.now.At, m.now.CPU, m.now.Waited = m.now.At.Add(took), m.now.CPU+cpu, m.now.Waited+waited
	p.recorded(1000, m.now.At)
}

// busy is a pace that has just become busy.
func busy() (*machine, *pace) {
	m := &machine{Load{Use: lag.Use{At: time.Unix(1000, 0)}}}
	p := newYielding(m.load)
	m.spend(p, 0, 0, 0)
	m.spend(p, busyFor, 0, 0)
	return m, p
}

func TestABusyRecorderRestsWhileTheMachineIsShortOfProcessorTime(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		took, cpu, waited, behind, want time.Duration
	}{
		"with room it never rests":                        {took: 300 * ms, cpu: 290 * ms, waited: 60 * ms, behind: 2 * ms},
		"a store that is slow is not a machine that is":   {took: 4000 * ms, cpu: 100 * ms, waited: 20 * ms, behind: 2 * ms},
		"its threads wait for a processor":                {took: 700 * ms, cpu: 290 * ms, waited: 650 * ms, behind: 2 * ms, want: 7 * 290 * ms},
		"timers are late":                                 {took: 300 * ms, cpu: 200 * ms, behind: 6 * ms, want: 7 * 200 * ms},
		"where others share the process":                  {took: 100 * ms, cpu: 190 * ms, waited: 300 * ms, want: 7 * 100 * ms},
		"where the system does not say what was used":     {took: 100 * ms, behind: 6 * ms, want: 7 * 100 * ms},
		"one rest is bounded":                             {took: 9000 * ms, cpu: 4000 * ms, waited: 9000 * ms, want: maxRest},
		"threads that ended have taken their waits along": {took: 300 * ms, cpu: 290 * ms, waited: -60 * ms},
		"and the timers count then, too":                  {took: 300 * ms, cpu: 290 * ms, waited: -60 * ms, behind: 9 * ms, want: 7 * 290 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := busy()
			m.now.Waited, m.now.CPU = time.Hour, time.Hour
			m.now.Behind = c.behind
			m.spend(p, c.took, c.cpu, c.waited)
			require.Equal(t, c.want, p.rest)
			if c.want > 0 {
				require.Equal(t, restBatch, p.most(), "its transactions stay as large as before")
			} else {
				require.Equal(t, maxBatch, p.most())
			}
		})
	}
}

func TestARecorderThatDoesNotYieldOrIsNotBusyNeverRests(t *testing.T) {
	t.Parallel()
	m := &machine{Load{Use: lag.Use{At: time.Unix(1000, 0)}, Behind: time.Minute}}
	p := newYielding(m.load)
	m.spend(p, time.Second, time.Second, time.Second)
	require.Zero(t, p.rest, "nothing is known of it yet")
	p = newPace()
	for range 3 {
		m.spend(p, time.Second, time.Second, time.Second)
		require.Zero(t, p.rest)
	}
	require.True(t, p.busy)
}

// Otherwise what it cannot do while it rests would make it look idle, and it would rest no more.
func TestARestDoesNotCountForWhetherItIsBusy(t *testing.T) {
	t.Parallel()
	m, p := busy()
	m.now.Behind = time.Minute
	for range 10 {
		m.spend(p, 600*time.Millisecond, 600*time.Millisecond, 0)
		require.Equal(t, 7*600*time.Millisecond, p.rest)
		m.now.At = m.now.At.Add(p.rest)
		p.rested(p.rest)
		require.Zero(t, p.rest)
		require.True(t, p.busy)
	}
}

func TestALogThatIsFarBehindIsRecordedAtFullSpeed(t *testing.T) {
	t.Parallel()
	m, p := busy()
	m.now.Behind = time.Minute
	rests := func() bool {
		m.spend(p, time.Second, time.Second, time.Second)
		return p.rest > 0
	}
	require.True(t, rests())
	require.False(t, p.age(hurryAt-time.Second))
	require.True(t, rests())
	require.True(t, p.age(hurryAt))
	require.False(t, p.age(hurryAt), "it is said once")
	require.False(t, rests())
	require.False(t, p.age(hurryUntil))
	require.False(t, rests(), "until it has caught up by a good part")
	require.True(t, p.age(hurryUntil-time.Second))
	require.True(t, rests())
	require.False(t, newPace().age(time.Hour), "one that never rests has nothing to say")
}
