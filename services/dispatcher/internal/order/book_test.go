package order_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/dispatcher/internal/order"
)

// place is where a delivery of the model is.
type place int

const (
	afar    place = iota // not come yet
	later                // takes its place in the line when its own time has come
	hand                 // waits in memory
	running              //
	parked               // in a record, for its turn
	resting              // in a record, for a time
	due                  // released, on its way
	ended
)

type delivery struct {
	id, key string
	event   uint64
	place   place
}

// model is the truth: what there is and where. It knows nothing of what the book forgets.
type model struct {
	t    *testing.T
	r    *rand.Rand
	book *order.Book[string]
	all  []*delivery
	byID map[string]*delivery
	open uint64
	now  time.Time
	// read is what a scan has read of and not told yet.
	read   []order.Entry[string]
	reread bool
}

func newModel(t *testing.T, seed uint64, keys, n int) *model {
	t.Helper()
	// Half of them read the streams again without need; the others show that a book says when there is.
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), byID: map[string]*delivery{}, now: time.Now(), reread: seed%2 == 0}
	m.book = order.New[string](order.Limits{Line: 6, Book: 14, Window: 3}, keys > 0)
	for i := range n {
		d := &delivery{id: fmt.Sprintf("d%d", i), event: uint64(i + 1)}
		if keys > 0 {
			d.key = strconv.Itoa(m.r.IntN(keys))
		}
		if m.r.IntN(3) == 0 {
			d.place = []place{parked, resting, due}[m.r.IntN(3)] // from before the book was made
		}
		if m.r.IntN(12) == 0 {
			d.place = later
		}
		m.all = append(m.all, d)
		m.byID[d.id] = d
	}
	return m
}

func (m *model) pick(p place) *delivery {
	var some []*delivery
	for _, d := range m.all {
		if d.place == p {
			some = append(some, d)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[m.r.IntN(len(some))]
}

func (m *model) note(d *delivery, s order.State) bool {
	return m.book.Note(order.Entry[string]{ID: d.id, Event: d.event, Key: d.key, State: s, Sequence: d.event, Job: d.id, At: m.now})
}

// come is a message that is taken in: it waits in memory, or goes to a record.
func (m *model) come(d *delivery) {
	if m.note(d, order.InHand) && m.r.IntN(4) > 0 {
		d.place = hand
		m.note(d, order.Waiting)
		return
	}
	d.place = parked
	m.note(d, order.Parked)
}

func (m *model) advance() {
	var moves order.Moves[string]
	m.book.Advance(m.open, m.r.IntN(4), m.now, &moves)
	for _, id := range moves.Run {
		d := m.byID[id]
		require.Equal(m.t, hand, d.place, "%s got the turn", id)
		for _, other := range m.all {
			if other.key == d.key && other.place != ended && other.place != later && other != d {
				require.Greater(m.t, other.event, d.event, "%s got the turn before %s, which is at %d", id, other.id, other.place)
				require.NotEqual(m.t, running, other.place, "%s got the turn while %s has it", id, other.id)
			}
		}
		d.place = running
	}
	for _, e := range moves.Release {
		d := m.byID[e.ID]
		if d.place == parked { // else it is gone, and a scan is asked for
			d.place = due
		}
	}
}

func (m *model) beginScan() {
	m.book.BeginScan()
	for _, d := range m.all {
		switch d.place {
		case hand:
			if m.book.Get(d.id) == nil {
				m.note(d, order.Waiting)
			} else {
				m.book.Touch(d.id)
			}
		case running:
			m.book.Touch(d.id)
		case afar, later, parked, resting, due, ended:
		}
	}
	// The streams are read as they are now, and told of later.
	m.read = nil
	for _, d := range m.all {
		e := order.Entry[string]{ID: d.id, Event: d.event, Key: d.key, Sequence: d.event, At: m.now}
		switch d.place {
		case parked:
			e.State = order.Parked
		case resting:
			e.State = order.Resting
		case due:
			e.State = order.Coming
		case afar, later, hand, running, ended:
			continue
		}
		m.read = append(m.read, e)
	}
	m.r.Shuffle(len(m.read), func(i, j int) { m.read[i], m.read[j] = m.read[j], m.read[i] })
}

func (m *model) step() {
	switch m.r.IntN(12) {
	case 0, 1:
		if d := m.pick([]place{afar, afar, later}[m.r.IntN(3)]); d != nil {
			m.come(d)
		}
	case 2, 3:
		if d := m.pick(due); d != nil {
			m.come(d)
		}
	case 4, 5:
		if d := m.pick(running); d != nil {
			if m.r.IntN(3) == 0 {
				d.place = resting
				m.note(d, order.Resting)
			} else {
				d.place = ended
				m.book.Remove(d.id)
			}
		}
	case 6:
		if d := m.pick(resting); d != nil {
			d.place = due
		}
	case 7:
		if d := m.pick(hand); d != nil && m.r.IntN(3) == 0 {
			d.place = parked
			m.note(d, order.Parked)
		}
	case 8: // ended by others
		if d := m.pick([]place{resting, parked}[m.r.IntN(2)]); d != nil && m.r.IntN(6) == 0 {
			d.place = ended
		}
	case 9:
		m.horizon()
	default:
		m.scan()
	}
	m.advance()
}

// horizon moves on to the last event before the first one that has not come.
func (m *model) horizon() {
	for _, d := range m.all {
		if d.place == afar {
			return
		}
		m.open = d.event
	}
}

func (m *model) scan() {
	if !m.book.Scanning() {
		if m.book.Dry() || m.book.View(1).Settling || m.reread && m.r.IntN(20) == 0 {
			m.beginScan()
		}
		return
	}
	for range 3 {
		if len(m.read) == 0 {
			m.book.EndScan(true)
			return
		}
		m.book.Found(m.read[0])
		m.read = m.read[1:]
	}
}

func (m *model) finished() bool {
	for _, d := range m.all {
		if d.place != ended {
			return false
		}
	}
	return true
}

// Whatever comes in which order, is forgotten for want of room, fails or is ended by others: nobody gets the
// turn before an earlier one of its line has ended, and all get it at last.
func TestOnlyTheFirstOfALineGetsTheTurn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		m := newModel(t, seed, int(seed%5), 20+int(seed%60))
		steps := 0
		for ; !m.finished(); steps++ {
			m.step()
			require.Less(t, steps, 200_000, "seed %d: it does not end: %+v", seed, m.book.View(5))
		}
		if m.book.Scanning() {
			m.book.EndScan(true)
		}
		require.LessOrEqual(t, m.book.Size(), len(m.all))
	}
}

func TestALineIsShownWithWhatBlocksIt(t *testing.T) {
	t.Parallel()
	b := order.New[int](order.Default(), true)
	require.True(t, b.View(1).Settling)
	b.BeginScan()
	b.EndScan(true)
	since := time.Now()
	b.Note(order.Entry[int]{ID: "a1", Event: 1, Key: "a", State: order.Resting, Reason: "timeout", Since: since, Due: since.Add(time.Minute)})
	b.Note(order.Entry[int]{ID: "a2", Event: 2, Key: "a", State: order.Parked})
	b.Note(order.Entry[int]{ID: "b3", Event: 3, Key: "b", State: order.Waiting})
	v := b.View(5)
	require.Equal(t, order.View{Lines: 2, Blocked: 1, Waiting: 3, Heads: []order.Head{
		{Key: "a", Delivery: "a1", Reason: "timeout", Since: since, Due: since.Add(time.Minute), Behind: 1},
	}}, v)
	n, blocked := b.Ahead("a2")
	require.Equal(t, 1, n)
	require.True(t, blocked)
	for _, id := range []string{"a1", "a2", "b3"} {
		b.Remove(id)
	}
	require.True(t, b.Empty())
}

// A webhook that is divided into other lines keeps what is known.
func TestLinesAreDividedAnew(t *testing.T) {
	t.Parallel()
	b := order.New[string](order.Default(), false)
	b.BeginScan()
	b.EndScan(true)
	for i, key := range []string{"a", "b", "a"} {
		b.Note(order.Entry[string]{ID: strconv.Itoa(i), Event: uint64(i), Key: key, State: order.Waiting, Job: strconv.Itoa(i)})
	}
	run := func() []string {
		var m order.Moves[string]
		b.Advance(9, 9, time.Now(), &m)
		return m.Run
	}
	require.Equal(t, []string{"0"}, run())
	b.SetKeyed(true)
	require.Equal(t, []string{"1"}, run(), "the other key's")
	b.Remove("0")
	require.Equal(t, []string{"2"}, run())
	b.SetKeyed(false)
	b.Remove("1")
	require.Empty(t, run())
}

func TestSeenKnowsWhatHasNotCome(t *testing.T) {
	t.Parallel()
	var s order.Seen
	require.True(t, s.All(0, 0))
	for _, sequence := range []uint64{11, 12, 15} {
		s.See(sequence)
	}
	require.False(t, s.All(12, 0), "those before the first were another's")
	require.True(t, s.All(12, 10), "and are acknowledged")
	require.False(t, s.All(15, 10))
	s.See(14)
	require.False(t, s.All(15, 10))
	require.True(t, s.All(13, 13))
	s.See(13)
	require.True(t, s.All(15, 12))
	require.False(t, s.All(16, 12))
	s.Reset(20)
	require.True(t, s.All(15, 12))
	s.Reset(3)
	require.False(t, s.All(3, 0), "it is another stream")
}

// What happens to a delivery while the streams are read is newer than what is read of it.
func TestAScanDoesNotBringBackWhatHasEndedMeanwhile(t *testing.T) {
	t.Parallel()
	b := order.New[string](order.Default(), false)
	b.BeginScan()
	b.Note(order.Entry[string]{ID: "ended", Event: 1, State: order.Running})
	b.Remove("ended")
	b.Note(order.Entry[string]{ID: "waits", Event: 2, State: order.Waiting, Job: "waits"})
	for _, id := range []string{"ended", "waits"} {
		b.Found(order.Entry[string]{ID: id, Event: 1, State: order.Coming})
	}
	b.EndScan(true)
	var m order.Moves[string]
	b.Advance(9, 9, time.Now(), &m)
	require.Equal(t, []string{"waits"}, m.Run)
	require.Nil(t, b.Get("ended"))
}

// What is left of a full book when its lines have moved is never more than a scan would replace: else nobody would read
// the streams again, and the lines would stand.
func TestABookThatWasFullSaysWhenItNeedsMore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := order.New[string](order.Limits{Line: 40, Book: 40, Window: 4}, true)
		stored := make(map[string]order.Entry[string])
		for i := range 200 {
			e := order.Entry[string]{ID: strconv.Itoa(i), Event: uint64(i + 1), Key: strconv.Itoa(i % 3), State: order.Parked, Sequence: 1}
			stored[e.ID] = e
		}
		for scans := 0; len(stored) > 0; scans++ {
			require.Less(t, scans, 100, "seed %d: %+v", seed, b.View(3))
			b.BeginScan()
			ids := slices.Collect(maps.Keys(stored))
			slices.Sort(ids)
			r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			for i, id := range ids { // a third came while the streams were read, waited for a turn, and is parked afterwards
				e := stored[id]
				if b.Found(e); i%3 == 0 {
					e.State, e.Job = order.Waiting, id
					b.Note(e)
				}
			}
			b.EndScan(true)
			for i, id := range ids {
				if i%3 == 0 {
					b.Note(stored[id])
				}
			}
			for !b.Dry() && len(stored) > 0 {
				var m order.Moves[string]
				b.Advance(1000, 100, time.Now(), &m)
				require.NotZero(t, len(m.Run)+len(m.Release), "seed %d: nothing moves and nothing is asked for: %+v", seed, b.View(3))
				for _, e := range m.Release {
					e := *e
					e.State, e.Job = order.Waiting, e.ID
					b.Note(e)
				}
				for _, id := range m.Run {
					b.Remove(id)
					delete(stored, id)
				}
			}
		}
	}
}
