package fair

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Pace tells how late those are who deal with what was accepted. *pace.Listener is one.
type Pace interface {
	// Heard has something when there is news.
	Heard() <-chan struct{}
	// Late is how late they are, and for how many that have to wait; known is false while nobody says so.
	Late(now time.Time) (late time.Duration, waiting float64, known bool)
	// Alone says whether nobody but one account had anything to wait for of late.
	Alone(now time.Time) bool
}

const (
	// readTime bounds a reading.
	readTime = 2 * time.Second
	// react is the least time between two reports that are taken: what the one before has changed must show.
	react = 40 * time.Millisecond
	// own is how many times as late what waits may be when all of it is of one account: a queue that nobody else
	// stands in makes the work cheaper, and must not be longer than what another one may meet who begins.
	own = 10
)

// Run takes readings, and what the pace says, until ctx ends.
func (g *Gate) Run(ctx context.Context, read func(context.Context) ([]Stage, error), pace Pace, log *slog.Logger) error {
	if g.cfg.Backlog == 0 {
		<-ctx.Done()
		return nil
	}
	var hearing sync.WaitGroup
	hearing.Go(func() { g.hear(ctx, pace) }) // A reading takes longer while the system is full.
	defer hearing.Wait()
	ticker := time.NewTicker(g.cfg.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		reading, cancel := context.WithTimeout(ctx, readTime)
		stages, err := read(reading)
		cancel()
		if err != nil {
			log.DebugContext(ctx, "backlog not read", slog.Any("error", err))
			g.Unknown(time.Now())
			continue
		}
		g.Turn(time.Now(), stages)
	}
}

func (g *Gate) hear(ctx context.Context, pace Pace) {
	var last time.Time
	for {
		select {
		case <-pace.Heard():
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(last) < react {
			continue
		}
		if late, waiting, known := pace.Late(now); known {
			last = now
			if pace.Alone(now) {
				late /= own
			}
			g.Late(now, late, waiting)
		}
	}
}
