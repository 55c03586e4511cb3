package kube_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/plane"
)

// interval is how often Prometheus scrapes, by deploy/prometheus and by the PodMonitor.
const interval = 15 * time.Second

// scrape is one line of the record: what a target showed at a time, or that it showed nothing.
// test/alerts reads it.
type scrape struct {
	Time   time.Time         `json:"time"`
	Labels map[string]string `json:"labels"`
	Up     bool              `json:"up"`
	Text   string            `json:"text,omitempty"`
}

// recorder writes what Prometheus would have scraped, until it is stopped.
type recorder struct {
	out     *gzip.Writer
	cancel  context.CancelFunc
	running sync.WaitGroup
	failure error
	rounds  int
}

// record begins to write into a file.
func (w *world) record(t *testing.T, path string) *recorder {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.Create(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{out: gzip.NewWriter(file), cancel: cancel}
	r.running.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for r.failure == nil {
			at := time.Now()
			pages := append(w.cluster.Scrape(ctx), w.stores.Export(ctx)...)
			if ctx.Err() != nil {
				return // what failed because the record ends was not down
			}
			r.failure = r.write(at, pages)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		r.cancel()
		r.running.Wait()
		_, _ = r.out.Close(), file.Close() // stop has written everything, or the test has failed
	})
	return r
}

// write writes one scrape of everything.
func (r *recorder) write(at time.Time, pages []plane.Page) error {
	lines := json.NewEncoder(r.out)
	var errs []error
	for _, page := range pages {
		errs = append(errs, lines.Encode(scrape{Time: at, Labels: page.Labels, Up: page.Err == nil, Text: page.Text}))
	}
	r.rounds++
	return errors.Join(errs...)
}

// stop ends the record.
func (r *recorder) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	r.running.Wait()
	require.NoError(t, r.failure)
	require.NoError(t, r.out.Close())
	t.Logf("%d scrapes of everything were recorded", r.rounds)
}

// values are those of a metric now, in every pod, of the series with all of the labels (name="value").
func (w *world) values(ctx context.Context, metric string, labels ...string) []float64 {
	var out []float64
	for _, page := range w.cluster.Scrape(ctx) {
		out = append(out, read(&page, metric, labels...)...)
	}
	return out
}

// read finds the values of a metric on a page.
func read(page *plane.Page, metric string, labels ...string) []float64 {
	var out []float64
lines:
	for line := range strings.Lines(page.Text) {
		rest, ok := strings.CutPrefix(line, metric)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if value, err := strconv.ParseFloat(fields[0], 64); err == nil {
			out = append(out, value)
		}
	}
	return out
}
