package fair_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/ingest/internal/fair"
)

const (
	allowed = 10 * time.Millisecond
	report  = 50 * time.Millisecond
	passes  = 5000 // attempts a second
)

// hearing is a simulation in which the gates are told how late the slow stage is, and may have a backlog
// that no flood here reaches.
func hearing(gates int) *simulation {
	s := simulate(0, 1e6, passes, 1)
	for range gates {
		cfg := fair.Config{Backlog: 100_000, Late: allowed, Every: turn}
		s.gates = append(s.gates, fair.New(cfg, func() bool { return s.shared }, start))
	}
	s.told = report
	return s
}

// However many ingests there are, a flood is cut before it is late by more than a few times what may be, nearly all
// of what could pass does, and nobody else is refused.
func TestAFloodIsCutBeforeItIsLate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		gates int
		loads []load
	}{
		"one ingest":                      {1, []load{with(quiet(), "flood", 20_000)}},
		"a little too much":               {1, []load{with(quiet(), "flood", 6_000)}},
		"the flood comes to one of three": {3, []load{quiet(), with(load{}, "flood", 20_000), quiet()}},
		"the flood comes to all three":    {3, []load{with(quiet(), "flood", 7_000), with(quiet(), "flood", 7_000), {"flood": 7_000}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hearing(tt.gates)
			s.run(2*time.Second, make([]load, len(tt.loads))...)
			_, refused := s.run(5*time.Second, tt.loads...) // until it has settled
			delete(refused, "flood")
			require.Empty(t, refused)
			admitted, refused := s.run(30*time.Second, tt.loads...)
			total := 0
			for _, n := range admitted {
				total += n
			}
			require.Positive(t, refused["flood"])
			delete(refused, "flood")
			require.Empty(t, refused)
			require.GreaterOrEqual(t, float64(total)/30, 0.85*passes, "what can pass passes")
			require.Less(t, s.highest/passes, 5*allowed.Seconds(), "and is not late")
		})
	}
}

func TestTwoFloodsThatAreLateHaveEqualShares(t *testing.T) {
	t.Parallel()
	s := hearing(1)
	loads := with(with(quiet(), "one", 6000), "two", 20_000)
	s.run(5*time.Second, loads)
	admitted, _ := s.run(30*time.Second, loads)
	require.InEpsilon(t, admitted["one"], admitted["two"], 0.1)
}

// What is late for another reason, such as a machine that does something else too, is cut by a part, and who
// publishes little is never refused.
func TestLatenessThatRefusingDoesNotMend(t *testing.T) {
	t.Parallel()
	s := hearing(1)
	loads := with(quiet(), "flood", 4000)
	s.run(5*time.Second, loads)
	s.always = time.Second
	admitted, refused := s.run(30*time.Second, loads)
	require.Positive(t, refused["flood"])
	total := 0
	for _, n := range admitted {
		total += n
	}
	require.GreaterOrEqual(t, float64(total)/30, 4000.0/8)
	delete(refused, "flood")
	require.Empty(t, refused)
	s.always = 0
	s.run(10*time.Second, loads)
	require.False(t, s.gates[0].State().Limiting)
}

// A machine that stands still for a moment is no flood, and where hardly anything is published nothing is gained
// by refusing it.
func TestAPauseClosesNoGate(t *testing.T) {
	t.Parallel()
	g := fair.New(fair.Config{Backlog: bound, Late: allowed, Every: turn}, func() bool { return true }, start)
	g.Turn(start.Add(turn), []fair.Stage{{Passed: 10}})
	g.Turn(start.Add(2*turn), []fair.Stage{{Passed: 20}})
	now := start.Add(2 * turn)
	g.Late(now.Add(report), time.Second, 1000)
	require.False(t, g.State().Limiting, "once")
	g.Late(now.Add(2*report), 0, 0)
	g.Late(now.Add(3*report), time.Second, 1000)
	require.False(t, g.State().Limiting, "and once more")
	for n := range 10 {
		g.Late(now.Add(time.Duration(4+n)*report), time.Second, 10)
		require.False(t, g.State().Limiting, "ten do not make a queue")
	}
	g.Late(now.Add(14*report), time.Second, 1000)
	require.False(t, g.State().Limiting)
	g.Late(now.Add(15*report), time.Second, 1000)
	require.True(t, g.State().Limiting)
	require.InDelta(t, 100, g.State().Share, 1, "nobody publishes so little that it has to be less")
}

// Producers that were refused come back one after the other, not all at once.
func TestRefusalsAreSpreadOverTime(t *testing.T) {
	t.Parallel()
	s := hearing(1)
	loads := with(quiet(), "flood", 20_000)
	s.run(5*time.Second, loads)
	var waits []time.Duration
	id := postrider.AccountID("flood")
	for len(waits) < 20 {
		if wait, ok := s.gates[0].Take(id, s.now); !ok {
			waits = append(waits, wait)
		}
	}
	for i := range waits[1:] {
		require.GreaterOrEqual(t, waits[i+1], waits[i])
		require.LessOrEqual(t, waits[i], time.Second)
	}
}
