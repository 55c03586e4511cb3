package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is everything that a run found out.
type Report struct {
	Time     time.Time `json:"time"`
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Results  []Result  `json:"results"`
	Rows     []Row     `json:"rows"`    // what is held against targets
	Seconds  float64   `json:"seconds"` // that everything took
}

// Settings are what the numbers depend on.
type Settings struct {
	Repetitions  int     `json:"repetitions"`
	LoadSeconds  float64 `json:"load_seconds"`
	RawSeconds   float64 `json:"raw_seconds"`
	PayloadBytes int     `json:"payload_bytes"`
	Shards       int     `json:"shards"`
	RawWorkers   int     `json:"raw_workers"`
	Connections  int     `json:"grpc_connections"`
	GCPercent    int     `json:"gogc"`
	NATS         string  `json:"nats"`
	Redis        string  `json:"redis"`
	Dedup        string  `json:"dedup"`
	MsgID        string  `json:"msg_id"`
	Journal      string  `json:"journal"`
	Recorder     string  `json:"recorder"`
	Receivers    string  `json:"receivers"`
}

// Sample is one run of a configuration between two plain loops.
type Sample struct {
	RawBefore  Raw                      `json:"raw_before"`
	RawAfter   Raw                      `json:"raw_after"`
	Steady     bool                     `json:"steady"` // whether the two differ by little
	Events     int                      `json:"events"`
	Deliveries int                      `json:"deliveries"`
	Duplicates int                      `json:"duplicates"`
	Degraded   int                      `json:"degraded"` // events that Redis did not vouch for in time
	Parked     int                      `json:"parked"`   // deliveries put off although the receiver was there
	Accepted   float64                  `json:"accepted_per_second"`
	Delivered  float64                  `json:"delivered_per_second"`
	Wall       float64                  `json:"wall_ratio"`
	CPURatio   float64                  `json:"cpu_ratio"`
	CPU        map[string]time.Duration `json:"cpu_ns_per_delivery"` // by process
	CPUTotal   time.Duration            `json:"cpu_ns_per_delivery_total"`
	AckP50     time.Duration            `json:"ack_p50_ns"`
	AckP99     time.Duration            `json:"ack_p99_ns"`
	LagP50     time.Duration            `json:"ack_to_arrival_p50_ns"`
	LagP99     time.Duration            `json:"ack_to_arrival_p99_ns"`
	CatchUp    *CatchUp                 `json:"catch_up,omitempty"` // where the recorder was stopped
}

// Result is a configuration's runs and their medians.
type Result struct {
	Configuration Configuration `json:"configuration"`
	Median        Sample        `json:"median"`
	Runs          []Sample      `json:"runs"`
	Dropped       int           `json:"dropped"` // runs that were repeated, see Sample.flaw
}

func newReport(ctx context.Context, opts *Options) *Report {
	return &Report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: machine(ctx, opts.Bin),
		Settings: Settings{
			Repetitions: opts.Repetitions, LoadSeconds: opts.Load.Seconds(), RawSeconds: opts.Raw.Seconds(),
			PayloadBytes: payloadSize, Shards: opts.Shards, RawWorkers: rawWorkers, Connections: connections, GCPercent: gcPercent(),
			NATS:      "one server, file storage, sync_interval 1s",
			Redis:     "no persistence",
			Dedup:     fmt.Sprintf("every event has an idempotency key that Redis vouches for, window %s", dedupWindow),
			MsgID:     fmt.Sprintf("every publish, duplicate window %s (one process: as shipped, 30s)", duplicateWindow),
			Journal:   "every routed event and every attempt, acknowledged before the delivery is",
			Recorder:  "runs, in the api's process, SQLite; stopped in " + confNoRecorder + " only",
			Receivers: "plain HTTP; TLS in " + confTLS + " only",
		},
	}
}

// newSample is what a run found; its ratios are set once both plain loops were run.
func newSample(out *published, seen *ledger, used map[string]time.Duration) *Sample {
	s := &Sample{
		Events: len(out.events), Deliveries: seen.deliveries, Duplicates: seen.duplicates, Degraded: out.degraded,
		Accepted:  float64(len(out.events)) / out.took.Seconds(),
		Delivered: float64(seen.deliveries) / time.Unix(0, seen.last).Sub(out.first).Seconds(),
		CPU:       make(map[string]time.Duration, len(used)),
		AckP50:    percentile(out.acks, 50), AckP99: percentile(out.acks, 99),
		LagP50: percentile(seen.lag, 50), LagP99: percentile(seen.lag, 99),
	}
	for name, d := range used {
		s.CPU[name] = d / time.Duration(max(seen.deliveries, 1))
	}
	s.CPUTotal = total(used) / time.Duration(max(seen.deliveries, 1))
	return s
}

// differ is by how much the plain loops before and after a run differ.
func (s *Sample) differ() float64 {
	a, b := s.RawBefore.PerSecond, s.RawAfter.PerSecond
	return (max(a, b) - min(a, b)) / max(a, b)
}

// flaw is why a run should be repeated, or empty. With a fatal one its numbers would not be of what
// they are said to be.
func (s *Sample) flaw() (why string, fatal bool) {
	if float64(s.Degraded) > mayDegrade*float64(s.Events) {
		return fmt.Sprintf("%d of %d events were accepted before Redis answered", s.Degraded, s.Events), true
	}
	if !s.Steady {
		return fmt.Sprintf("the plain loops before and after differ by %.0f %%", 100*s.differ()), false
	}
	return "", false
}

func (s *Sample) raw() float64 { return (s.RawBefore.PerSecond + s.RawAfter.PerSecond) / 2 }

func (s *Sample) rawCPU() time.Duration { return (s.RawBefore.CPU + s.RawAfter.CPU) / 2 }

func (s *Sample) ratios() {
	s.Steady = s.differ() <= mayDiffer
	s.Wall = s.Delivered / s.raw()
	s.CPURatio = float64(s.rawCPU()) / float64(max(s.CPUTotal, 1))
}

// counted are the runs that medians are of: the steady ones, if there are any.
func (r *Result) counted() []Sample {
	steady := slices.DeleteFunc(slices.Clone(r.Runs), func(s Sample) bool { return !s.Steady })
	if len(steady) > 0 {
		return steady
	}
	return r.Runs
}

// newResult takes the medians of the runs that count.
func newResult(c Configuration, runs []Sample, dropped int) *Result {
	r := &Result{Configuration: c, Runs: runs, Dropped: dropped}
	runs = r.counted()
	m := &r.Median
	m.Steady = runs[0].Steady
	m.RawBefore, m.RawAfter = medianRaw(runs, func(s *Sample) *Raw { return &s.RawBefore }), medianRaw(runs, func(s *Sample) *Raw { return &s.RawAfter })
	m.Events, m.Deliveries = median(runs, func(s *Sample) int { return s.Events }), median(runs, func(s *Sample) int { return s.Deliveries })
	for i := range r.Runs {
		m.Duplicates += r.Runs[i].Duplicates // every one counts
		m.Degraded += r.Runs[i].Degraded
		m.Parked += r.Runs[i].Parked
	}
	m.Accepted, m.Delivered = median(runs, func(s *Sample) float64 { return s.Accepted }), median(runs, func(s *Sample) float64 { return s.Delivered })
	m.Wall, m.CPURatio = median(runs, func(s *Sample) float64 { return s.Wall }), median(runs, func(s *Sample) float64 { return s.CPURatio })
	m.CPU = map[string]time.Duration{}
	for name := range runs[0].CPU {
		m.CPU[name] = median(runs, func(s *Sample) time.Duration { return s.CPU[name] })
	}
	m.CPUTotal = median(runs, func(s *Sample) time.Duration { return s.CPUTotal })
	m.AckP50, m.AckP99 = median(runs, func(s *Sample) time.Duration { return s.AckP50 }), median(runs, func(s *Sample) time.Duration { return s.AckP99 })
	m.LagP50, m.LagP99 = median(runs, func(s *Sample) time.Duration { return s.LagP50 }), median(runs, func(s *Sample) time.Duration { return s.LagP99 })
	return r
}

func median[T cmp.Ordered](runs []Sample, of func(*Sample) T) T {
	values := make([]T, len(runs))
	for i := range runs {
		values[i] = of(&runs[i])
	}
	return middle(values)
}

func medianRaw(runs []Sample, of func(*Sample) *Raw) Raw {
	return Raw{
		PerSecond: median(runs, func(s *Sample) float64 { return of(s).PerSecond }),
		CPU:       median(runs, func(s *Sample) time.Duration { return of(s).CPU }),
		Client:    median(runs, func(s *Sample) time.Duration { return of(s).Client }),
		Receiver:  median(runs, func(s *Sample) time.Duration { return of(s).Receiver }),
	}
}

// percentile sorts the values and returns the one below which p percent of them are.
func percentile(values []time.Duration, p int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)*p/100, len(values)-1)]
}

// line is a run in short.
func (s *Sample) line() string {
	return fmt.Sprintf("%s accepted/s, %s delivered/s, wall %.2f, CPU %.2f, %s us per delivery, %d parked; plain loop %s/s and %s/s, %s us",
		count(s.Accepted), count(s.Delivered), s.Wall, s.CPURatio, micros(s.CPUTotal), s.Parked,
		count(s.RawBefore.PerSecond), count(s.RawAfter.PerSecond), micros(s.rawCPU()))
}

// Table writes the report for people.
func (r *Report) Table(out io.Writer) error {
	w := &bytes.Buffer{}
	m, s := &r.Machine, &r.Settings
	fmt.Fprintf(w, "\nmachine   %s, %d cores, %s, Linux %s\n", m.CPU, m.Cores, m.Memory, m.Kernel)
	fmt.Fprintf(w, "versions  Postrider %s, %s, nats-server %s, Redis %s; %s\n", m.Commit, m.Go, m.NATS, m.Redis, r.Time.Format(time.RFC3339))
	fmt.Fprintf(w, "settings  %d B of data, %d shards, GOGC %d, NATS: %s, Redis: %s\n", s.PayloadBytes, s.Shards, s.GCPercent, s.NATS, s.Redis)
	fmt.Fprintf(w, "          publishing for %.0f s, medians of %d; plain loop: %d goroutines, %.0f s before and %.0f s after each run; %d gRPC connections\n",
		s.LoadSeconds, s.Repetitions, s.RawWorkers, s.RawSeconds, s.RawSeconds, s.Connections)
	fmt.Fprintf(w, "shipped   deduplication: %s\n          Msg-Id: %s\n          journal: %s\n          recorder: %s\n          receivers: %s\n",
		s.Dedup, s.MsgID, s.Journal, s.Recorder, s.Receivers)
	fmt.Fprintf(w, "          everything is on this machine; every accepted event was seen at the receiver; all of it took %.0f s\n\n", r.Seconds)
	if len(r.Results) > 0 {
		r.speed(w)
		r.latency(w)
		r.cpu(w)
		r.notes(w)
	}
	rowTable(w, r.Rows)
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := w.WriteTo(columns)
	return errors.Join(err, columns.Flush())
}

func (r *Report) speed(w *bytes.Buffer) {
	fmt.Fprintln(w, "configuration\tform\tproducers\twebhooks\taccepted/s\tdelivered/s\tplain loop/s\twall ratio\tCPU ratio\tack p50 ms\tack p99 ms\t")
	for i := range r.Results {
		c, m := &r.Results[i].Configuration, &r.Results[i].Median
		if c.open() {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d per event\t%s\t%s\t%s\t%.2f\t%.2f\t%s\t%s\t\n", c.Name, c.Form, c.Load, c.FanOut,
			count(m.Accepted), count(m.Delivered), count(m.raw()), m.Wall, m.CPURatio, millis(m.AckP50), millis(m.AckP99))
	}
}

func (r *Report) latency(w *bytes.Buffer) {
	fmt.Fprintln(w, "\nopen loop\tform\trate\tack p50 ms\tack p99 ms\tack to arrival p50 ms\tp99 ms\t")
	for i := range r.Results {
		c, m := &r.Results[i].Configuration, &r.Results[i].Median
		if c.open() {
			fmt.Fprintf(w, "%s\t%s\t%.0f events/s\t%s\t%s\t%s\t%s\t\n", c.Name, c.Form, c.Rate,
				millis(m.AckP50), millis(m.AckP99), millis(m.LagP50), millis(m.LagP99))
		}
	}
}

func (r *Report) cpu(w *bytes.Buffer) {
	names := map[string]bool{}
	for i := range r.Results {
		for name := range r.Results[i].Median.CPU {
			names[name] = true
		}
	}
	columns := sortedNames(names)
	fmt.Fprintf(w, "\nCPU us per delivery\t%s\ttotal\tservices and stores\tplain loop (client + receiver)\t\n", strings.Join(columns, "\t"))
	for i := range r.Results {
		c, m := &r.Results[i].Configuration, &r.Results[i].Median
		if c.open() {
			continue
		}
		fmt.Fprintf(w, "%s\t", c.Name)
		for _, name := range columns {
			if d, ok := m.CPU[name]; ok {
				fmt.Fprintf(w, "%s\t", micros(d))
			} else {
				fmt.Fprint(w, "-\t")
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s (%s + %s)\t\n", micros(m.CPUTotal), micros(m.CPUTotal-m.CPU[loadName]-m.CPU[receiverName]),
			micros(m.rawCPU()), micros((m.RawBefore.Client+m.RawAfter.Client)/2), micros((m.RawBefore.Receiver+m.RawAfter.Receiver)/2))
	}
}

func (r *Report) notes(w *bytes.Buffer) {
	fmt.Fprintln(w)
	for i := range r.Results {
		res := &r.Results[i]
		name := res.Configuration.Name
		if n := len(res.Runs); n < r.Settings.Repetitions {
			fmt.Fprintf(w, "%s: the time was up after %d of %d repetitions\n", name, n, r.Settings.Repetitions)
		}
		if res.Dropped > 0 {
			fmt.Fprintf(w, "%s: %d runs were dropped and repeated: plain loops that differed by more than %.0f %%, or a Redis that did not answer\n", name, res.Dropped, 100*mayDiffer)
		}
		if !res.Median.Steady {
			fmt.Fprintf(w, "%s: the plain loops differed in every run: do not rely on its wall ratio\n", name)
		}
		if res.Median.Degraded > 0 {
			fmt.Fprintf(w, "%s: %d events were accepted before Redis answered\n", name, res.Median.Degraded)
		}
		if res.Median.Parked > 0 {
			fmt.Fprintf(w, "%s: %d of %d deliveries were parked on their way\n", name, res.Median.Parked, res.deliveries())
		}
		if res.Median.Duplicates > 0 {
			fmt.Fprintf(w, "%s: %d requests were repeats of deliveries that had arrived\n", name, res.Median.Duplicates)
		}
	}
}

// deliveries is how many there were in all runs.
func (r *Result) deliveries() (sum int) {
	for i := range r.Runs {
		sum += r.Runs[i].Deliveries
	}
	return sum
}

// JSON writes the report for programs.
func (r *Report) JSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// count writes a rate with a space between thousands.
func count(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Microsecond)) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
