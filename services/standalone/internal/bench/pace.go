package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// pace says when the next call is due. In a closed loop that is at once; in an open loop by the
// clock, however long calls take: latencies count from then. It is safe for concurrent use.
type pace struct {
	began, end time.Time
	every      time.Duration // 0 in a closed loop
	given      atomic.Int64
}

// next waits until a call is due. It is false once the time is over or the context has ended.
func (p *pace) next(ctx context.Context) (due time.Time, ok bool) {
	now := time.Now()
	if ctx.Err() != nil || !now.Before(p.end) {
		return now, false
	}
	if p.every == 0 {
		return now, true
	}
	due = p.began.Add(time.Duration(p.given.Add(1)-1) * p.every)
	if due.Before(p.end) && pause(ctx, due.Sub(now)) {
		return due, true
	}
	p.given.Add(-1)
	return due, false
}

// left tells, after an open loop, of each call that was due and that nobody was free to make.
func (p *pace) left(tell func(due time.Time)) {
	if p.every == 0 {
		return
	}
	for n := p.given.Load(); ; n++ {
		due := p.began.Add(time.Duration(n) * p.every)
		if !due.Before(p.end) {
			return
		}
		tell(due)
	}
}

// pause waits; it is false if the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
