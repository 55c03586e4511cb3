package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// manyRetries is a backlog of so many retries: what it takes, and what is done with it. What is found
// before something takes too long counts.
func (b *bench) manyRetries(ctx context.Context, name string, n int) (rows []Row, err error) {
	add := func(name, unit string, value float64) { rows = append(rows, figure("", name, unit, value)) }
	other := b.different(func(o *Options) {
		// The limit for each shard is not what is measured.
		o.env = map[string]map[string]string{"scheduler": {"POSTRIDER_RETRIES_MAX_RECORDS": "0"}}
	})
	err = other.system(ctx, name, func(s *system) error {
		w, err := other.backlog(ctx, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		empty, err := w.footprint(ctx)
		if err != nil {
			return err
		}
		if err := w.wait(ctx, n); err != nil {
			return err
		}
		add("handed over", unitRate, w.perSecond)
		full, err := w.footprint(ctx)
		if err != nil {
			return err
		}
		each := func(of func(footprint) int64) float64 { return float64(of(full)-of(empty)) / float64(n) }
		add("memory of Redis for one", unitBytes, each(func(f footprint) int64 { return f.redis }))
		add("memory of NATS for one", unitBytes, each(func(f footprint) int64 { return f.nats }))
		add("memory of the scheduler for one", unitBytes, each(func(f footprint) int64 { return f.scheduler }))
		disk, err := sizeOf(s.cluster.NATSStore(s.cluster.Of("nats")[0]))
		if err != nil {
			return err
		}
		add("disk of NATS for one", unitBytes, float64(disk)/float64(n))
		before, err := cpuOf(s.procs["scheduler"])
		if err != nil {
			return err
		}
		took, err := w.rebuild(ctx)
		if err != nil {
			return err
		}
		after, err := cpuOf(s.procs["scheduler"])
		if err != nil {
			return err
		}
		add("index rebuilt", unitSecond, took.Seconds())
		add("CPU of the scheduler for the rebuild", unitSecond, (after - before).Seconds())
		r, err := w.release(ctx, atOnceQuick)
		if err != nil {
			return err
		}
		if err := w.delivered(ctx, r, atOnceQuick); err != nil {
			return err
		}
		add(fmt.Sprintf("of %s more, due at one instant, released within 1 s", count(atOnceQuick)), "", float64(r.inTime()))
		add("the last of them was late by", unitSecond, r.last().Seconds())
		return nil
	})
	return rows, err
}

// sizeOf is the size of all files below a folder; what goes away meanwhile does not count.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// startLimit is how long a process with a large configuration may take to start.
const startLimit = 15 * time.Minute
