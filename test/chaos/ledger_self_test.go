//go:build chaos

package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The drills are worth what their ledger notices.
func TestLedgerNotices(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	ok := func(int) int { return 200 }
	fresh := func() *ledger {
		return newLedger(func(int) []int { return []int{0, 1} }, func(n int) []byte { return []byte{byte(n)} })
	}
	for name, test := range map[string]struct {
		do   func(l *ledger)
		want sums
		open int
	}{
		"what was accepted and arrived everywhere": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.request(pair{0, "evt_1"}, at(1), ok)
				l.request(pair{1, "evt_1"}, at(1), ok)
			},
			want: sums{accepted: 1, expected: 2, arrived: 2},
		},
		"what arrives before its receipt": {
			do: func(l *ledger) {
				l.request(pair{0, "evt_1"}, at(0), ok)
				l.request(pair{1, "evt_1"}, at(0), ok)
				l.accept(1, "evt_1", at(1))
			},
			want: sums{accepted: 1, expected: 2, arrived: 2},
		},
		"what is missing at one webhook": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.request(pair{0, "evt_1"}, at(1), ok)
			},
			want: sums{accepted: 1, expected: 2, arrived: 1, missing: []pair{{1, "evt_1"}}}, open: 1,
		},
		"what came and was refused": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.request(pair{0, "evt_1"}, at(1), ok)
				l.request(pair{1, "evt_1"}, at(1), func(int) int { return 503 })
			},
			want: sums{accepted: 1, expected: 2, arrived: 1, missing: []pair{{1, "evt_1"}}}, open: 1,
		},
		"what came at the second try": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.request(pair{0, "evt_1"}, at(1), ok)
				policy := func(requests int) int { return map[int]int{1: 503, 2: 204}[requests] }
				l.request(pair{1, "evt_1"}, at(1), policy)
				l.request(pair{1, "evt_1"}, at(2), policy)
			},
			want: sums{accepted: 1, expected: 2, arrived: 2, retried: 1},
		},
		"what came again after it was taken": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				for i := range 3 {
					l.request(pair{0, "evt_1"}, at(i), ok)
				}
				l.request(pair{1, "evt_1"}, at(1), ok)
			},
			want: sums{accepted: 1, expected: 2, arrived: 2, duplicates: 2, repeats: []time.Time{at(1), at(2)}},
		},
		"what nobody published": {
			do:   func(l *ledger) { l.request(pair{0, "evt_9"}, at(0), ok) },
			want: sums{strangers: []pair{{0, "evt_9"}}},
		},
		"what came to a webhook that does not want it": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				for hook := range 3 {
					l.request(pair{hook, "evt_1"}, at(1), ok)
				}
			},
			want: sums{accepted: 1, expected: 2, arrived: 2, strangers: []pair{{2, "evt_1"}}},
		},
		"a key with two events": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.accept(1, "evt_2", at(1))
			},
			want: sums{
				accepted: 1, expected: 2, missing: []pair{{0, "evt_1"}, {1, "evt_1"}},
				faults: []string{"the key of event 1 got two receipts: evt_1 and evt_2"},
			},
			open: 2,
		},
		"two keys with one event": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.accept(2, "evt_1", at(1))
			},
			want: sums{
				accepted: 1, expected: 2, missing: []pair{{0, "evt_1"}, {1, "evt_1"}},
				faults: []string{"events 1 and 2 got the same receipt: evt_1"},
			},
			open: 2,
		},
		"another event's body": {
			do: func(l *ledger) {
				l.accept(1, "evt_1", at(0))
				l.body(pair{0, "evt_1"}, 2, []byte{2})
				l.body(pair{1, "evt_1"}, 1, []byte{2})
				l.body(pair{0, "evt_1"}, 1, []byte{1})
			},
			want: sums{
				accepted: 1, expected: 2, missing: []pair{{0, "evt_1"}, {1, "evt_1"}},
				faults: []string{
					"webhook 0 got evt_1 with a body that is not its own", "webhook 1 got evt_1 with a body that is not its own",
				},
			},
			open: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fresh()
			test.do(l)
			got := l.total()
			require.ElementsMatch(t, test.want.missing, got.missing)
			test.want.missing, got.missing = nil, nil
			require.Equal(t, test.want, got)
			require.Equal(t, test.open, l.inFlight())
		})
	}
}

func TestLedgerTellsHowLongWhatWasInFlightTook(t *testing.T) {
	t.Parallel()
	start := time.Now()
	l := newLedger(func(int) []int { return []int{0} }, func(int) []byte { return nil })
	for i, arrived := range []int{5, 30, 20, 0} { // ms; the kill is at 10
		id := string(rune('a' + i))
		l.accept(i, id, start)
		if arrived > 0 {
			l.request(pair{0, id}, start.Add(time.Duration(arrived)*time.Millisecond), func(int) int { return 200 })
		}
	}
	all := func(pair) bool { return true }
	require.Equal(t, []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}, l.waits(start.Add(10*time.Millisecond), all))
	require.Empty(t, l.waits(start.Add(10*time.Millisecond), func(p pair) bool { return p.hook != 0 }))
	require.Equal(t, 1, l.inFlight())
}
