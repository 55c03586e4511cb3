package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// CatchUp is what the recorder does by itself: it writes down what was delivered while it did not run,
// with nothing else to do on the machine.
type CatchUp struct {
	Attempts  int           `json:"attempts"` // that were left to record when it was ready
	PerSecond float64       `json:"attempts_per_second"`
	CPU       time.Duration `json:"cpu_ns_per_attempt"` // of its process
}

// Metrics of the recorder.
const (
	recorderPage    = "api"
	recordedMetric  = "postrider_recorder_entries_total"
	recorderPending = "postrider_recorder_pending"
)

// Times of catchUp.
const (
	catchUpStep  = 50 * time.Millisecond
	catchUpQuiet = 2 * time.Second // pending is as old as a second
	catchUpLimit = 2 * time.Minute
)

// withoutRecorder is bracketed while the api, in which the recorder is, is stopped. Then the api is
// started again, and what it catches up is measured.
func (b *bench) withoutRecorder(ctx context.Context, s *system, p *producer, c Configuration, first bool) (*Sample, error) {
	api := s.cluster.Of(recorderPage)[0]
	page := s.metrics[recorderPage]
	if err := api.Stop(stopLimit); err != nil {
		return nil, err
	}
	delete(s.procs, recorderPage)
	delete(s.metrics, recorderPage)
	sample, err := b.bracketed(ctx, s, p, c, first)
	if err := errors.Join(err, api.Start()); err != nil {
		return nil, err
	}
	if err := api.WaitReady(ctx); err != nil {
		return nil, err
	}
	s.procs[recorderPage], s.metrics[recorderPage] = api.PID(), page
	sample.CatchUp, err = catchUp(ctx, s, sample.Deliveries)
	return sample, err
}

// recorded waits until the recorder, if it runs, has nothing left: between two transactions it may rest for
// seconds, and all is quiet meanwhile.
func (s *system) recorded(ctx context.Context) error {
	page := cmp.Or(s.metrics[recorderPage], s.metrics["postrider"])
	if page == "" {
		return nil
	}
	const looks = 1200 * time.Millisecond // it says every second what is left
	wait := time.NewTimer(looks)
	defer wait.Stop()
	for deadline := time.Now().Add(catchUpLimit); ; wait.Reset(catchUpStep) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		left, err := metric(ctx, page, recorderPending)
		if err != nil || left <= 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the recorder has not caught up in %s", catchUpLimit)
		}
	}
}

// stopLimit is how long a process may take to stop.
const stopLimit = 20 * time.Second

// catchUp waits until a recorder that has just become ready has recorded everything; all of it is of so
// many attempts. What it recorded before it was ready does not count, since starting takes time too.
func catchUp(ctx context.Context, s *system, attempts int) (*CatchUp, error) {
	type reading struct {
		entries float64
		cpu     time.Duration
		at      time.Time
	}
	read := func() (r reading, err error) {
		if r.entries, err = metric(ctx, s.metrics[recorderPage], recordedMetric); err != nil {
			return r, err
		}
		r.entries = max(r.entries, 0)
		r.cpu, err = cpuOf(s.procs[recorderPage])
		r.at = time.Now()
		return r, err
	}
	first, err := read()
	if err != nil {
		return nil, err
	}
	last := first
	ticker := time.NewTicker(catchUpStep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		now, err := read()
		if err != nil {
			return nil, err
		}
		if now.entries > last.entries {
			last = now
		}
		if now.at.Sub(first.at) > catchUpLimit {
			return nil, fmt.Errorf("the recorder has not caught up in %s", catchUpLimit)
		}
		if now.at.Sub(last.at) < catchUpQuiet {
			continue
		}
		if left, err := metric(ctx, s.metrics[recorderPage], recorderPending); err != nil || left > 0 {
			if err != nil {
				return nil, err
			}
			continue
		}
		break
	}
	share := (last.entries - first.entries) / max(last.entries, 1)
	c := &CatchUp{Attempts: int(share * float64(attempts))}
	if took := last.at.Sub(first.at); c.Attempts > 0 && took > 0 {
		c.PerSecond = float64(c.Attempts) / took.Seconds()
		c.CPU = (last.cpu - first.cpu) / time.Duration(c.Attempts)
	}
	return c, nil
}
