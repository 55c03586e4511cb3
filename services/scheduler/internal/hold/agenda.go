package hold

import (
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
)

// gap is the shortest time between two looks at one webhook, so that a webhook whose records
// arrive one by one is not looked at for each of them.
const gap = 500 * time.Millisecond

// agenda is which webhooks to look at, and from when on. It is bounded by the number of
// webhooks. A webhook is never given out twice at once.
type agenda struct {
	mu    sync.Mutex
	due   map[postrider.WebhookID]time.Time
	busy  map[postrider.WebhookID]bool
	ended map[postrider.WebhookID]time.Time // looks of the last gap
	wake  chan struct{}
}

func newAgenda() *agenda {
	return &agenda{
		due:   make(map[postrider.WebhookID]time.Time),
		busy:  make(map[postrider.WebhookID]bool),
		ended: make(map[postrider.WebhookID]time.Time),
		wake:  make(chan struct{}, 1),
	}
}

// add asks for a look at the time, or earlier if one is asked for already.
func (a *agenda) add(id postrider.WebhookID, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if due, ok := a.due[id]; !ok || at.Before(due) {
		a.due[id] = at
	}
	a.ring()
}

func (a *agenda) ring() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take gives out up to limit webhooks that are due, and says when the next one will be; next
// is zero if there is none.
func (a *agenda) take(now time.Time, limit int) (ids []postrider.WebhookID, next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, last := range a.ended {
		if now.Sub(last) >= gap {
			delete(a.ended, id)
		}
	}
	for id, at := range a.due {
		if a.busy[id] {
			continue // done rings
		}
		if last, ok := a.ended[id]; ok && at.Before(last.Add(gap)) {
			at = last.Add(gap)
		}
		switch {
		case at.After(now):
			if next.IsZero() || at.Before(next) {
				next = at
			}
		case len(ids) == limit:
			next = now
		default:
			delete(a.due, id)
			a.busy[id] = true
			ids = append(ids, id)
		}
	}
	return ids, next
}

// done gives a webhook back.
func (a *agenda) done(id postrider.WebhookID, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, id)
	a.ended[id] = now
	a.ring()
}
