package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARowIsHeldAgainstItsTarget(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		row  Row
		want bool
	}{
		"more than the least":         {figure("g", "n", unitRate, 12).atLeast(10), true},
		"the least":                   {figure("g", "n", unitRate, 10).atLeast(10), true},
		"less than the least":         {figure("g", "n", unitRate, 9.99).atLeast(10), false},
		"less than the most":          {figure("g", "n", unitRate, 9).atMost(10), true},
		"the most":                    {figure("g", "n", unitRate, 10).atMost(10), true},
		"more than the most":          {figure("g", "n", unitRate, 10.01).atMost(10), false},
		"the median counts":           {figure("g", "n", unitRate, 1, 11, 12).atLeast(10), true},
		"not measured is not met":     {figure("g", "n", unitRate).atMost(10), false},
		"not measured meets no least": {figure("g", "n", unitRate).atLeast(0), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotNil(t, test.row.Met)
			require.Equal(t, test.want, *test.row.Met)
		})
	}
	require.Nil(t, figure("g", "n", unitRate, 1).Met)
}

func TestTheMiddleOfFewValues(t *testing.T) {
	t.Parallel()
	values := []float64{9, 1, 5}
	require.InDelta(t, 5, middle(values), 0)
	require.Equal(t, []float64{9, 1, 5}, values)
	require.InDelta(t, 1, middle([]float64{9, 1}), 0)
	require.Zero(t, middle([]float64(nil)))
	require.InDelta(t, 5, fairMiddle(values), 0)
	require.InDelta(t, 5, fairMiddle([]float64{9, 1}), 0)
	require.Zero(t, fairMiddle(nil))
}

func TestTheRowsOfAConfiguration(t *testing.T) {
	t.Parallel()
	fast := sample(100_000, 100_000, 25_000) // 0.25 of the loop, in wall time and in CPU time
	fast.CPU = map[string]time.Duration{loadName: 5 * time.Microsecond, receiverName: 20 * time.Microsecond, recorderPage: 15 * time.Microsecond, "nats": 40 * time.Microsecond}
	noisy := sample(100_000, 10_000, 90_000)
	noisy.CPU = fast.CPU
	batch := Configuration{Name: confBatch, Form: separate, FanOut: 1}
	rows := byName(speedRows([]Result{*newResult(batch, []Sample{noisy, fast}, 0)}))

	require.True(t, *rows["batch: delivered, wall"].Met)
	require.Len(t, rows["batch: delivered, wall"].Runs, 1, "a run between plain loops that differ does not count")
	require.InDelta(t, 0.04, rows["batch: CPU for 1000 deliveries"].Measured, 1e-9)
	require.True(t, *rows["batch: CPU for 1000 deliveries"].Met)
	require.InDelta(t, 0.015, rows["batch: CPU for 1000 attempts recorded"].Measured, 1e-9)

	half := Configuration{Name: confHalf, Form: separate, HalfOf: confUnary, Rate: 3000}
	late := sample(1, 1, 1)
	late.LagP50, late.LagP99 = 5*time.Millisecond, 51*time.Millisecond
	rows = byName(speedRows([]Result{*newResult(half, []Sample{late}, 0)}))
	require.Nil(t, rows["half-rate (3000 events/s): ack to arrival p50"].Met)
	require.False(t, *rows["half-rate (3000 events/s): ack to arrival p99"].Met)
}

func byName(rows []Row) map[string]Row {
	m := map[string]Row{}
	for i := range rows {
		m[rows[i].Name] = rows[i]
	}
	return m
}

func TestTurnsAreComparedByTheirMedians(t *testing.T) {
	t.Parallel()
	var turn turns
	turn.alone.p50, turn.alone.p99 = []float64{1, 1, 1}, []float64{2, 10, 4}
	turn.beside.p50, turn.beside.p99 = []float64{1, 1, 1}, []float64{6, 8, 100}
	rows := turn.rows("a flood", 2)
	ratio := rows[len(rows)-1]
	require.InDelta(t, 2, ratio.Measured, 1e-9) // 8 to 4
	require.True(t, *ratio.Met)
	require.Equal(t, []float64{3, 0.8, 25}, ratio.Runs)
}

func TestAMissIsNotHidden(t *testing.T) {
	t.Parallel()
	rows := []Row{
		figure("g", "too slow", unitRate, 5, 6, 7).atLeast(10).noting("a note"), figure("g", "small", unitBytes, 100).atMost(200),
		figure("g", "never run", unitSecond).atMost(10), figure("g", "no target", unitMillis, 1234.5),
	}
	var out bytes.Buffer
	rowTable(&out, rows)
	for _, want := range []string{
		"too slow\t6.00\t5.00\t7.00\t3\t/s\tat least 10.0\tNO\ta note\n", "small\t100\t100\t100\t1\tB\tat most 200\tyes\t\n",
		"never run\tnot measured\t-\t-\t0\ts\tat most 10.0\tNO\t\n", "no target\t1 234\t1 234\t1 234\t1\tms\t-\t\t\n", "1 of 3 targets were met",
	} {
		require.Contains(t, out.String(), want)
	}
	var doc strings.Builder
	require.NoError(t, (&Report{Rows: rows}).JSON(&doc))
	var read struct{ Rows []Row }
	require.NoError(t, json.Unmarshal([]byte(doc.String()), &read))
	require.False(t, *read.Rows[0].Met)
	require.Nil(t, read.Rows[3].Met)
}

func TestWhatIsReleasedInTimeIsCounted(t *testing.T) {
	t.Parallel()
	r := burst{late: []time.Duration{time.Millisecond, time.Second, time.Second + 1, 2 * time.Second}}
	require.Equal(t, 2, r.inTime())
	require.Equal(t, 2*time.Second, r.last())
	require.Zero(t, (&burst{}).last())
}

func TestMemoryIsOfEachThatWaits(t *testing.T) {
	t.Parallel()
	rows := byName(footprint{redis: 1000 + 150_000, nats: 2000 + 800_000, scheduler: 50_000}.rows(footprint{redis: 1000, nats: 2000}, 1000))
	require.InDelta(t, 150, rows["1 000 waiting retries: memory of Redis for one"].Measured, 1e-9)
	require.True(t, *rows["1 000 waiting retries: memory of Redis for one"].Met)
	require.False(t, *rows["1 000 waiting retries: memory of NATS for one"].Met)

	row := resident{"nats": 300 << 20, "api": 101 << 20}.row("idle")
	require.InDelta(t, 401, row.Measured, 1e-9)
	require.False(t, *row.Met)
	require.Equal(t, "api 101, nats 300, after 20s of nothing to do", row.Note)
}
