package fair_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/ingest/internal/fair"
)

const (
	turn  = 250 * time.Millisecond
	bound = 1000
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// simulation is a system that routes and attempts at fixed rates, with ingests in front of it.
type simulation struct {
	gates     []*fair.Gate
	shared    bool // there is more than one account
	now       time.Time
	routed    float64 // a second
	attempted float64 // a second
	fan       float64 // deliveries of an event
	stages    [2]struct{ waiting, passed float64 }
	highest   float64
	told      time.Duration // how often the gates are told how late attempts are; 0 for never
	always    time.Duration // what is late for another reason
	late      []float64     // seconds, since they were told
}

func simulate(gates int, routed, attempted, fan float64) *simulation {
	s := &simulation{now: start, shared: true, routed: routed, attempted: attempted, fan: fan}
	for range gates {
		s.gates = append(s.gates, fair.New(fair.Config{Backlog: bound, Every: turn}, func() bool { return s.shared }, start))
	}
	return s
}

// load is what accounts ask for at one ingest, in events a second.
type load map[postrider.AccountID]float64

// run publishes for a while in steps of ten milliseconds, and returns how much of each account was
// admitted and refused.
func (s *simulation) run(d time.Duration, loads ...load) (admitted, refused map[postrider.AccountID]int) {
	admitted, refused = map[postrider.AccountID]int{}, map[postrider.AccountID]int{}
	const step = 10 * time.Millisecond
	owed := make([]load, len(loads))
	for i := range owed {
		owed[i] = load{}
	}
	s.highest = 0
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(step)
		for i, l := range loads {
			for id, rate := range l {
				for owed[i][id] += rate * step.Seconds(); owed[i][id] >= 1; owed[i][id]-- {
					if _, ok := s.gates[i].Take(id, s.now); ok {
						admitted[id]++
						s.stages[0].waiting++
					} else {
						refused[id]++
					}
				}
			}
		}
		routed := min(s.stages[0].waiting, s.routed*step.Seconds())
		s.pass(0, routed)
		s.stages[1].waiting += routed * s.fan
		s.pass(1, min(s.stages[1].waiting, s.attempted*step.Seconds()))
		s.highest = max(s.highest, s.stages[0].waiting, s.stages[1].waiting)
		s.late = append(s.late, s.stages[1].waiting/s.attempted)
		if s.told > 0 && s.now.Sub(start)%s.told == 0 {
			s.tell()
		}
		if s.now.Sub(start)%turn == 0 {
			for _, g := range s.gates {
				g.Turn(s.now, []fair.Stage{s.stage(0), s.stage(1)})
			}
		}
	}
	return admitted, refused
}

// tell is a report of how late attempts were on average since the last one.
func (s *simulation) tell() {
	sum := 0.0
	for _, late := range s.late {
		sum += late
	}
	late := time.Duration(sum / float64(len(s.late)) * float64(time.Second))
	s.late = s.late[:0]
	for _, g := range s.gates {
		g.Late(s.now, late+s.always, (late+s.always).Seconds()*s.attempted)
	}
}

func (s *simulation) pass(i int, n float64) {
	s.stages[i].waiting -= n
	s.stages[i].passed += n
}

func (s *simulation) stage(i int) fair.Stage {
	return fair.Stage{Waiting: uint64(s.stages[i].waiting), Passed: uint64(s.stages[i].passed)}
}

func quiet() load {
	l := load{}
	for i := range 20 {
		l[postrider.AccountID(fmt.Sprintf("quiet-%d", i))] = float64(1 + i)
	}
	return l
}

func with(l load, id postrider.AccountID, rate float64) load {
	out := load{id: rate}
	maps.Copy(out, l)
	return out
}

// However many ingests there are, whichever stage is slow and wherever the flood comes in, nobody
// else is refused, the backlog stays about its bound, and most of what could pass does.
func TestAFloodIsCutAndNobodyElse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sim    *simulation
		loads  []load
		events float64 // a second, that can pass
	}{
		"routing is slow":                     {simulate(1, 2000, 1e6, 1), []load{with(quiet(), "flood", 10_000)}, 2000},
		"attempts are slow":                   {simulate(1, 1e5, 2000, 1), []load{with(quiet(), "flood", 10_000)}, 2000},
		"ten webhooks for each event":         {simulate(1, 1e5, 20_000, 10), []load{with(quiet(), "flood", 10_000)}, 2000},
		"a quarter too much":                  {simulate(1, 1e5, 2000, 1), []load{with(quiet(), "flood", 2500)}, 2000},
		"the flood comes to one of three":     {simulate(3, 1e5, 2000, 1), []load{quiet(), with(load{}, "flood", 10_000), quiet()}, 2000},
		"the flood comes to all three":        {simulate(3, 1e5, 2000, 1), []load{with(quiet(), "flood", 5000), with(quiet(), "flood", 5000), {"flood": 5000}}, 2000},
		"one of two ingests has few to serve": {simulate(2, 1e5, 2000, 1), []load{{"quiet-1": 5}, with(quiet(), "flood", 10_000)}, 2000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.sim.run(time.Second, make([]load, len(tt.loads))...)
			tt.sim.run(10*time.Second, tt.loads...) // until it has settled
			admitted, refused := tt.sim.run(30*time.Second, tt.loads...)
			total := 0
			for id, n := range admitted {
				total += n
				if id != "flood" {
					require.Zero(t, refused[id], "%s asked for its own %d", id, n)
				}
			}
			require.Positive(t, refused["flood"])
			require.LessOrEqual(t, tt.sim.highest, 2*tt.events, "the backlog is worked off in two seconds")
			require.GreaterOrEqual(t, float64(total)/30, 0.7*tt.events, "what can pass passes")
		})
	}
}

func TestTwoFloodsHaveEqualShares(t *testing.T) {
	t.Parallel()
	s := simulate(1, 1e5, 2000, 1)
	loads := with(with(quiet(), "one", 4000), "two", 20_000)
	s.run(5*time.Second, loads)
	admitted, _ := s.run(30*time.Second, loads)
	require.InEpsilon(t, admitted["one"], admitted["two"], 0.1)
}

func TestOneAccountAloneIsNotLimited(t *testing.T) {
	t.Parallel()
	s := simulate(1, 2000, 1e6, 1)
	s.shared = false
	_, refused := s.run(10*time.Second, load{"flood": 10_000})
	require.Empty(t, refused)
	require.False(t, s.gates[0].State().Limiting)
	s.shared = true
	require.True(t, s.gates[0].State().Limiting, "now there is somebody to share with")
}

func TestTheGateOpensWhenTheFloodIsOver(t *testing.T) {
	t.Parallel()
	s := simulate(1, 1e5, 2000, 1)
	s.run(10*time.Second, with(quiet(), "flood", 10_000))
	require.True(t, s.gates[0].State().Limiting)
	s.run(5*time.Second, quiet())
	require.False(t, s.gates[0].State().Limiting)
	_, refused := s.run(time.Second, with(quiet(), "flood", 1500))
	require.Empty(t, refused, "what passes is nobody's flood")
}

// Without a router there is no pace to share out: EVENTS takes what comes. When there is one again,
// there are shares again.
func TestWhileNobodyRoutesEverythingIsAccepted(t *testing.T) {
	t.Parallel()
	s := simulate(1, 0, 2000, 1)
	s.run(time.Second, nil)
	loads := with(quiet(), "flood", 5000)
	_, refused := s.run(3*time.Second, loads)
	delete(refused, "flood")
	require.Empty(t, refused)
	_, refused = s.run(10*time.Second, with(loads, "flood", 20_000))
	require.Empty(t, refused)
	s.routed = 2000
	s.run(time.Second, loads)
	admitted, refused := s.run(10*time.Second, loads)
	require.Positive(t, refused["flood"])
	for id := range quiet() {
		require.Positive(t, admitted[id])
		require.Zero(t, refused[id])
	}
}

func TestWhoIsRefusedIsToldWhenToComeAgain(t *testing.T) {
	t.Parallel()
	s := simulate(1, 1e5, 2000, 1)
	s.run(10*time.Second, with(quiet(), "flood", 10_000))
	for range 10_000 {
		wait, ok := s.gates[0].Take("flood", s.now)
		if !ok {
			require.GreaterOrEqual(t, wait, 20*time.Millisecond)
			require.LessOrEqual(t, wait, 30*time.Second)
			_, ok = s.gates[0].Take("flood", s.now.Add(wait))
			require.True(t, ok, "after that time there is room for one")
			return
		}
	}
	t.Fatal("it was never refused")
}

func TestWhatIsNotKnownLimitsNobody(t *testing.T) {
	t.Parallel()
	s := simulate(1, 1e5, 2000, 1)
	s.run(10*time.Second, with(quiet(), "flood", 10_000))
	s.gates[0].Unknown(s.now)
	for range 10_000 {
		_, ok := s.gates[0].Take("flood", s.now)
		require.True(t, ok)
	}
	off := fair.New(fair.Config{Every: turn}, func() bool { return true }, start)
	off.Turn(start.Add(turn), []fair.Stage{{Waiting: 1e9}})
	_, ok := off.Take("one", start.Add(turn))
	require.True(t, ok, "a bound of 0 is none")
}

func BenchmarkTake(b *testing.B) {
	g := fair.New(fair.Default(), func() bool { return true }, start)
	ids := make([]postrider.AccountID, 10_000)
	for i := range ids {
		ids[i] = postrider.NewAccountID()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g.Take(ids[i%len(ids)], start)
	}
}
