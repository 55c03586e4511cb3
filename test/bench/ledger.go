package bench

import (
	"fmt"
	"slices"
	"time"
)

// ledger is what came of the accepted events.
type ledger struct {
	deliveries int
	duplicates int
	last       int64           // when the last delivery arrived first
	lag        []time.Duration // from the acknowledgement to the first arrival at a webhook
}

// check holds the accepted events against what arrived. Each must have arrived at fanOut webhooks.
func check(events []publication, arrivals []arrival, fanOut int) (*ledger, error) {
	slices.SortFunc(events, func(a, b publication) int { return a.event.Compare(b.event) })
	slices.SortFunc(arrivals, func(a, b arrival) int {
		if d := a.event.Compare(b.event); d != 0 {
			return d
		}
		if a.hook != b.hook {
			return int(a.hook) - int(b.hook)
		}
		return int(min(max(a.at-b.at, -1), 1))
	})
	l := &ledger{lag: make([]time.Duration, 0, len(events)*fanOut)}
	for _, e := range events {
		if len(arrivals) > 0 && arrivals[0].event.Compare(e.event) < 0 {
			return nil, fmt.Errorf("event %s arrived and was not accepted", arrivals[0].event)
		}
		hooks, last := 0, -1
		for len(arrivals) > 0 && arrivals[0].event == e.event {
			a := arrivals[0]
			arrivals = arrivals[1:]
			if int(a.hook) == last {
				l.duplicates++
				continue
			}
			last = int(a.hook)
			hooks++
			l.lag = append(l.lag, time.Duration(a.at-e.acked))
			l.last = max(l.last, a.at)
		}
		if hooks != fanOut {
			return nil, fmt.Errorf("event %s was accepted and arrived at %d of %d webhooks", e.event, hooks, fanOut)
		}
	}
	if len(arrivals) > 0 {
		return nil, fmt.Errorf("event %s arrived and was not accepted", arrivals[0].event)
	}
	l.deliveries = len(l.lag)
	return l, nil
}
