//go:build chaos

package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// The drills of this file's users have webhooks that refuse the first request of each delivery, so
// that all of them wait; the breakers are out of the way, for the retries' own due times to hold.
const patientBreaker = "1000000"

// Event types of those drills.
const (
	typeWaits = "wait.%d" // for the webhooks that make everything wait, one type each
	typeFlows = "flow.run"
	typeAgain = "flow.again"
)

// Of those drills: accounts, and webhooks that make everything wait.
const (
	waitAccounts = 4
	waitHooks    = 20
)

// flowFrom and againFrom are the numbers from which events are of those types.
const (
	flowFrom  = 1_000_000
	againFrom = 2_000_000
)

// waitPlan is the kind of the event with a number.
func waitPlan(number int) eventPlan {
	switch {
	case number >= againFrom:
		return eventPlan{account: number % waitAccounts, eventType: typeAgain}
	case number >= flowFrom:
		return eventPlan{account: number % waitAccounts, eventType: typeFlows}
	}
	hook := number % waitHooks
	return eventPlan{account: hook % waitAccounts, eventType: fmt.Sprintf(typeWaits, hook)}
}

// waitWorldHooks are the stubborn webhooks, whose retries follow the schedule, and for other
// traffic one that takes everything, one that refuses a third, and one that refuses each delivery
// once, in each account.
func waitWorldHooks(s *postriderv1.RetrySchedule) []hookPlan {
	var hooks []hookPlan
	for i := range waitHooks {
		name := fmt.Sprintf(typeWaits, i)
		hooks = append(hooks, hookPlan{account: i % waitAccounts, patterns: []string{name}, wants: []string{name}, schedule: s, mood: stubborn()})
	}
	quick := schedule(time.Second, 0)
	for a := range waitAccounts {
		flows, again := []string{typeFlows}, []string{typeAgain}
		hooks = append(hooks,
			hookPlan{account: a, patterns: flows, wants: flows, mood: fine()},
			hookPlan{account: a, patterns: flows, wants: flows, schedule: quick, mood: flaky(.3)},
			hookPlan{account: a, patterns: again, wants: again, schedule: quick, mood: stubborn()},
		)
	}
	return hooks
}

// dues waits until the log has every one of the deliveries waiting, and returns the times at which
// it says that they are due.
func dues(t *testing.T, w *world, within time.Duration, of []pair) map[pair]time.Time {
	t.Helper()
	wanted := map[pair]bool{}
	for _, p := range of {
		wanted[p] = true
	}
	due := map[pair]time.Time{}
	var err error
	await(t, within, 500*time.Millisecond, func() string {
		return fmt.Sprintf("the log has %d of %d deliveries waiting (%v)", len(due), len(wanted), err)
	}, func() bool {
		err = w.logged(t.Context(), 0, waiting, func(d *postriderv1.Delivery) {
			if p := w.pairOf(d); wanted[p] {
				due[p] = d.GetNextAttemptTime().AsTime()
			}
		})
		return err == nil && len(due) == len(wanted)
	})
	return due
}

// pairs are the deliveries of the events from one number up to another, which are accepted.
func (w *world) pairs(from, to int) []pair {
	var out []pair
	for n := from; n < to; n++ {
		for _, hook := range w.wants(n) {
			out = append(out, pair{hook, w.ledger.id(n)})
		}
	}
	return out
}

// bounds are the first and the last of the times.
func bounds(due map[pair]time.Time) (first, last time.Time) {
	for _, at := range due {
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return first, last
}

// lateness waits until each delivery has arrived, in its second request, and returns how much later
// than its time it did, sorted.
func lateness(t *testing.T, w *world, due map[pair]time.Time, until time.Time) []time.Duration {
	t.Helper()
	arrived := func() int {
		n := 0
		for p := range due {
			if at, _ := w.ledger.arrival(p); !at.IsZero() {
				n++
			}
		}
		return n
	}
	await(t, time.Until(until), 100*time.Millisecond, func() string {
		return fmt.Sprintf("%d of %d waiting deliveries arrived", arrived(), len(due))
	}, func() bool { return arrived() == len(due) })
	var late []time.Duration
	for p, at := range due {
		arrived, requests := w.ledger.arrival(p)
		require.Equal(t, 2, requests, "%s was refused once", p.event)
		late = append(late, arrived.Sub(at))
	}
	slices.Sort(late)
	return late
}

// judgeAll waits for the end of everything that was accepted, and holds the ledger to its rules.
// Nothing was killed that attempts deliveries, so nothing may come twice.
func judgeAll(t *testing.T, w *world, s *streams, p *producer) {
	t.Helper()
	settle(t, w, s)
	sum := w.ledger.total()
	t.Logf("ledger: accepted %d events (%d publishes repeated, %d receipts marked duplicate, %d with a degraded window), "+
		"expected %d deliveries, arrived %d (%d not in the first request), missing %d, unexpected %d, duplicates %d, bound 0",
		sum.accepted, p.repeats.Load(), p.duplicates.Load(), p.degraded.Load(),
		sum.expected, sum.arrived, sum.retried, len(sum.missing), len(sum.strangers), sum.duplicates)
	require.Empty(t, sum.faults)
	explain(t, w, "missing", sum.missing)
	explain(t, w, "never accepted, or not wanted, but arrived", sum.strangers)
	require.Zero(t, sum.duplicates)
}
