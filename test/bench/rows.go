package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Row is one figure, held against its target where there is one.
type Row struct {
	Group    string  `json:"group"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Measured float64 `json:"measured"` // median of Runs
	// Target is a least value, or, with AtMost, a greatest one. 0: there is none.
	Target float64 `json:"target,omitempty"`
	AtMost bool    `json:"at_most,omitempty"`
	// Met is absent where there is no target.
	Met  *bool     `json:"met,omitempty"`
	Runs []float64 `json:"runs,omitempty"`
	Note string    `json:"note,omitempty"` // what was shortened, or counts, for people
}

// figure is a row without a target.
func figure(group, name, unit string, runs ...float64) Row {
	return Row{Group: group, Name: name, Unit: unit, Measured: fairMiddle(runs), Runs: runs}
}

// atLeast gives the row a least value.
func (r Row) atLeast(target float64) Row { return r.hold(target, false) }

// atMost gives the row a greatest value.
func (r Row) atMost(target float64) Row { return r.hold(target, true) }

func (r Row) hold(target float64, most bool) Row {
	met := r.Measured >= target
	if most {
		met = r.Measured <= target
	}
	// What was not measured meets nothing.
	met = met && len(r.Runs) > 0
	r.Target, r.AtMost, r.Met = target, most, &met
	return r
}

func (r Row) noting(format string, args ...any) Row {
	r.Note = fmt.Sprintf(format, args...)
	return r
}

// middle is the median; of an even number of values, the lower of the two in the middle.
func middle[T cmp.Ordered](values []T) (none T) {
	if len(values) == 0 {
		return none
	}
	values = slices.Sorted(slices.Values(values))
	return values[(len(values)-1)/2]
}

// fairMiddle is the median; of an even number of values, the mean of the two in the middle: the lower one
// would favour whatever is to be at most something.
func fairMiddle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// Units of rows.
const (
	unitRatio  = "of the plain loop"
	unitTimes  = "times"
	unitMillis = "ms"
	unitSecond = "s"
	unitRate   = "/s"
	unitBytes  = "B"
	unitMiB    = "MiB"
)

// each takes a value from each run that counts.
func each(r *Result, of func(*Sample) float64) []float64 {
	runs := r.counted()
	values := make([]float64, len(runs))
	for i := range runs {
		values[i] = of(&runs[i])
	}
	return values
}

// ratioTargets are the least ratios to the plain loop, of wall time and of CPU time.
var ratioTargets = map[string]float64{confBatch: 0.25, confUnary: 0.18, confOne: 0.25, confFanOut: 0.35}

// speedRows are the figures of the configurations.
func speedRows(results []Result) (rows []Row) {
	for i := range results {
		r := &results[i]
		if r.Configuration.open() {
			rows = append(rows, latencyRows(r)...)
			continue
		}
		name := r.Configuration.Name
		rows = append(rows, figure(groupSpeed, name+": delivered", unitRate, each(r, func(s *Sample) float64 { return s.Delivered })...))
		wall := figure(groupSpeed, name+": delivered, wall", unitRatio, each(r, func(s *Sample) float64 { return s.Wall })...)
		cpu := figure(groupSpeed, name+": delivered, CPU", unitRatio, each(r, func(s *Sample) float64 { return s.CPURatio })...)
		if least := ratioTargets[name]; least > 0 {
			wall, cpu = wall.atLeast(least), cpu.atLeast(least)
		}
		rows = append(rows, wall, cpu)
		if r.Configuration.Form == separate {
			rows = append(rows, costRows(r)...)
		}
	}
	return rows
}

// Groups of rows.
const (
	groupSpeed   = "speed"
	groupCost    = "cost"
	groupLatency = "latency"
)

// costRows are CPU times for a thousand deliveries. The recorder is the api's process.
func costRows(r *Result) (rows []Row) {
	name := r.Configuration.Name
	own := figure(groupCost, name+": CPU for 1000 deliveries", unitSecond, each(r, func(s *Sample) float64 {
		return 1000 * (s.CPUTotal - s.CPU[loadName] - s.CPU[receiverName] - s.CPU[recorderPage]).Seconds()
	})...).noting("services and stores without the recorder")
	if name == confBatch {
		own = own.atMost(0.075)
	}
	rows = append(rows, own)
	if name == confBatch {
		rows = append(rows, figure(groupCost, name+": CPU for 1000 attempts recorded", unitSecond, each(r, func(s *Sample) float64 {
			return 1000 * s.CPU[recorderPage].Seconds()
		})...).atMost(0.03).noting("the api's process while everything runs"))
	}
	if r.Configuration.NoRecorder {
		caught := func(of func(*CatchUp) float64) (values []float64) {
			for _, s := range r.counted() {
				if s.CatchUp != nil && s.CatchUp.Attempts > 0 {
					values = append(values, of(s.CatchUp))
				}
			}
			return values
		}
		rows = append(rows,
			figure(groupCost, "recorder: attempts recorded by itself", unitRate, caught(func(c *CatchUp) float64 { return c.PerSecond })...).
				noting("catching up after it was stopped, nothing else to do"),
			figure(groupCost, "recorder: CPU for 1000 attempts by itself", unitSecond, caught(func(c *CatchUp) float64 { return 1000 * c.CPU.Seconds() })...))
	}
	return rows
}

func latencyRows(r *Result) []Row {
	name := fmt.Sprintf("%s (%.0f events/s): ack to arrival", r.Configuration.Name, r.Configuration.Rate)
	p50 := figure(groupLatency, name+" p50", unitMillis, each(r, func(s *Sample) float64 { return ms(s.LagP50) })...)
	p99 := figure(groupLatency, name+" p99", unitMillis, each(r, func(s *Sample) float64 { return ms(s.LagP99) })...)
	switch r.Configuration.Name {
	case confLatency:
		p50, p99 = p50.atMost(3), p99.atMost(10)
	case confHalf:
		p99 = p99.atMost(50).noting("half of what %s delivered in the first round", r.Configuration.HalfOf)
	}
	return []Row{p50, p99}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rowTable writes the rows with their targets; a miss is marked.
func rowTable(w *bytes.Buffer, rows []Row) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w, "\nfigure\tmeasured\tlowest\thighest\truns\tunit\ttarget\tmet\t")
	missed, held := 0, 0
	for i := range rows {
		r := &rows[i]
		target, met := "-", ""
		if r.Met != nil {
			held++
			target, met = "at least "+number(r.Target), "yes"
			if r.AtMost {
				target = "at most " + number(r.Target)
			}
			if !*r.Met {
				missed++
				met = "NO"
			}
		}
		measured, low, high := "not measured", "-", "-"
		if len(r.Runs) > 0 {
			measured, low, high = number(r.Measured), number(slices.Min(r.Runs)), number(slices.Max(r.Runs))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Name, measured, low, high, len(r.Runs), r.Unit, target, met, r.Note)
	}
	fmt.Fprintf(w, "\n%d of %d targets were met\n", held-missed, held)
}

// number writes three digits or more.
func number(v float64) string {
	switch {
	case v >= 1000:
		return count(v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
