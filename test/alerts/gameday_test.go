//go:build gameday

package alerts_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// gameday is where test/kube writes what it recorded.
const gameday = root + "/var/gameday/"

// evaluation is how often rules are evaluated, by deploy/prometheus.
const evaluation = 15 * time.Second

// hardware are alerts about how fast production is. A game day runs all of it, three NATS servers that
// write every message through and whatever else there is, on one machine: they are shown and not held.
var hardware = map[string]bool{"AcceptanceLatencyFast": true, "AcceptanceLatencySlow": true, "FirstAttemptLatencyFast": true, "FirstAttemptLatencySlow": true}

// incident is what test/kube wrote about one: what to expect, and by when.
type incident struct {
	Name, Runbook, Alert string
	Began, Mended        time.Time
	Fires, Over          time.Duration
	Quiet                []string
}

// scrape is what a target showed at a time.
type scrape struct {
	Time   time.Time
	Labels map[string]string
	Up     bool
	Text   string
}

// span is when an alert fired without a pause.
type span struct{ from, to time.Time }

// TestGameDay evaluates the rules over what the last game day recorded, and holds for each incident
// that its alert fires in time, is over in time after the mend, and that nothing else pages.
func TestGameDay(t *testing.T) {
	text, err := os.ReadFile(gameday + "timeline.json")
	require.NoError(t, err, "make gameday records one")
	var timeline []incident
	require.NoError(t, json.Unmarshal(text, &timeline))
	require.NotEmpty(t, timeline)
	spans := replay(t)
	require.Contains(t, spans, "Watchdog")
	expected := map[string]bool{}
	rows := []string{"incident\tlasted\talert\tfired after\tover after\trunbook\n"}
	for _, in := range timeline {
		expected[in.Alert] = true
		fired, over := "never", "never"
		for _, s := range spans[in.Alert] {
			require.False(t, s.from.Before(in.Began) && s.to.After(in.Began), "%s fired before %s", in.Alert, in.Name)
			if s.from.Before(in.Began) || s.from.After(in.Began.Add(in.Fires)) {
				continue
			}
			fired = s.from.Sub(in.Began).Round(time.Second).String()
			if !s.to.After(in.Mended.Add(in.Over)) {
				over = max(s.to.Sub(in.Mended), 0).Round(time.Second).String()
			}
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n", in.Name, in.Mended.Sub(in.Began).Round(time.Second), in.Alert, fired, over, in.Runbook))
		if fired == "never" || over == "never" {
			t.Errorf("%s: %s fired after %s, was over after %s: %v", in.Name, in.Alert, fired, over, spans[in.Alert])
		}
		for _, name := range in.Quiet {
			for _, s := range spans[name] {
				if s.from.After(in.Began) && s.from.Before(in.Mended.Add(in.Over)) {
					t.Errorf("%s: %s fired at %s", in.Name, name, s.from.Sub(in.Began))
				}
			}
		}
	}
	var table strings.Builder
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, err = columns.Write([]byte(strings.Join(rows, "")))
	require.NoError(t, errors.Join(err, columns.Flush()))
	t.Log("\n" + table.String())
	for _, r := range rules(t) {
		for _, s := range spans[r.Alert] {
			if r.Alert == "" || expected[r.Alert] || r.Labels["severity"] == "none" {
				continue
			}
			t.Logf("besides: %s (%s) from %s to %s after the beginning", r.Alert, r.Labels["severity"], s.from.Sub(timeline[0].Began).Round(time.Second), s.to.Sub(timeline[0].Began).Round(time.Second))
			if r.Labels["severity"] == "page" && !hardware[r.Alert] {
				t.Errorf("%s pages", r.Alert)
			}
		}
	}
}

// replay evaluates the rules over the record, and returns when each alert fired.
func replay(t *testing.T) map[string][]span {
	t.Helper()
	file, err := os.Open(gameday + "scrapes.jsonl.gz")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	packed, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := json.NewDecoder(bufio.NewReader(packed))
	series := teststorage.New(t)
	e := newEvaluator(t, promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery), series, evaluation)
	p := &prometheus{series: series, targets: map[string]samples{}}
	spans := map[string][]span{}
	var next time.Time
	var round []scrape // all of one time
	for {
		var s scrape
		err := lines.Decode(&s)
		if len(round) > 0 && (err != nil || !s.Time.Equal(round[0].Time)) {
			p.store(t, round)
			round = nil
		}
		if errors.Is(err, io.EOF) {
			return spans
		}
		require.NoError(t, err)
		round = append(round, s)
		if next.IsZero() {
			next = s.Time.Add(evaluation)
		}
		for ; s.Time.After(next); next = next.Add(evaluation) {
			e.evaluate(t, next)
			for name := range e.firing() {
				last := len(spans[name]) - 1
				if last >= 0 && next.Sub(spans[name][last].to) <= evaluation {
					spans[name][last].to = next
				} else {
					spans[name] = append(spans[name], span{next, next})
				}
			}
		}
	}
}

// samples are values by their series.
type samples map[labels.Labels]float64

// prometheus stores scrapes as Prometheus does.
type prometheus struct {
	series  storage.Storage
	targets map[string]samples // what each target showed last
}

// store stores one round of scrapes: with the targets' labels, with up, and with an end to each series
// that the round before had and that this one has not, of targets that are gone too.
func (p *prometheus) store(t *testing.T, round []scrape) {
	t.Helper()
	app, at, now := p.series.AppenderV2(t.Context()), round[0].Time.UnixMilli(), map[string]samples{}
	add := func(l labels.Labels, v float64) {
		_, err := app.Append(0, l, 0, at, v, nil, nil, storage.AppendV2Options{})
		require.NoError(t, err, l.String())
	}
	for i := range round {
		now[labels.FromMap(round[i].Labels).String()] = round[i].samples(t)
	}
	for id, before := range p.targets {
		for l := range before {
			if _, still := now[id][l]; !still {
				add(l, math.Float64frombits(value.StaleNaN))
			}
		}
	}
	for _, list := range now {
		for l, v := range list {
			add(l, v)
		}
	}
	require.NoError(t, app.Commit())
	p.targets = now
}

// samples are what a scrape showed.
func (s *scrape) samples(t *testing.T) samples {
	t.Helper()
	up := labels.NewBuilder(labels.FromMap(s.Labels)).Set(model.MetricNameLabel, "up").Labels()
	if !s.Up {
		return samples{up: 0}
	}
	out := samples{up: 1}
	parser := textparse.NewPromParser([]byte(s.Text), labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if entry != textparse.EntrySeries {
			continue
		}
		var own labels.Labels
		parser.Labels(&own)
		b := labels.NewBuilder(own)
		for name, text := range s.Labels {
			if taken := own.Get(name); taken != "" {
				b.Set("exported_"+name, taken)
			}
			b.Set(name, text)
		}
		_, _, v := parser.Series()
		out[b.Labels()] = v
	}
}
