package config

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	// askTimeout is less than the lease, so that a question that was lost is asked again within it.
	askTimeout = 800 * time.Millisecond
	// lateAfter is how many questions in a row may find the same message missing before the
	// consumer that should bring it is made anew.
	lateAfter = 4
)

// question asks, again and again, how far a bucket is.
func (m *Mirror) question(ctx context.Context, w *watch, events chan<- event) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	q := questioner{mirror: m, watch: w}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.wake:
		}
		a, ok := q.ask(ctx)
		if !ok {
			continue
		}
		select {
		case events <- event{watch: w, answer: &a}:
		case <-ctx.Done():
			return
		}
	}
}

// questioner asks for one bucket.
type questioner struct {
	mirror  *Mirror
	watch   *watch
	missing uint64 // the position after which something was missing at the last question
	late    int    // questions in a row that found it so
	failing bool
	scanned time.Duration // when a scan was last ordered for want of contact
}

// ask asks once. It asks nothing while there is no registration: rule 3 of the barrier.
func (q *questioner) ask(ctx context.Context) (answer, bool) {
	m, w := q.mirror, q.watch
	a := answer{until: time.Duration(m.registered.Load()), before: w.pos.Load(), began: m.now()}
	if a.began >= a.until {
		return answer{}, false
	}
	if a.began-max(time.Duration(w.contact.Load()), q.scanned) > rescanAfter {
		q.scanned = a.began // a deletion may have been missed whose marker is gone
		w.follower.Rescan(false)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	p, err := w.bucket.Position(ctx)
	if err != nil {
		q.failed(ctx, err)
		return answer{}, false
	}
	q.failing = false
	a.last, a.created = p.Last, p.Created
	q.look(ctx, &a)
	return a, true
}

// failed logs the first of a row of failures.
func (q *questioner) failed(ctx context.Context, err error) {
	if q.failing || errors.Is(context.Cause(ctx), context.Canceled) {
		return
	}
	q.failing = true
	q.mirror.log.WarnContext(ctx, "configuration cannot be confirmed", "bucket", q.watch.bucket.Name(), "error", err)
}

// look finds out, when nothing has come since the last question and yet the bucket is said to be
// further, whether there is anything to come. The last messages of a bucket may be gone: markers
// and marks end. If there is none, the position that the mirror has is the last. If there is one,
// it is late, and after a while the consumer is made anew.
func (q *questioner) look(ctx context.Context, a *answer) {
	pos := q.watch.pos.Load()
	if a.last <= pos {
		q.late = 0
		return
	}
	if q.late == 0 || q.missing != pos {
		q.missing, q.late = pos, 1
		return
	}
	_, err := q.watch.bucket.Next(ctx, pos+1)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		a.last = pos
	case err == nil:
		if q.late++; q.late > lateAfter {
			q.late = 0
			q.watch.follower.Resume()
		}
	}
}
