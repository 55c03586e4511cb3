//go:build chaos

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOrderedWebhooksUnderLoad(t *testing.T) {
	orderingDrill(t, loadSize{burst: 1200, batch: 50, inFlight: 200},
		"dispatcher", "router", "scheduler", "nats", "dispatcher", "router")
}

func TestShortOrderedWebhooksUnderLoad(t *testing.T) {
	t.Parallel()
	orderingDrill(t, loadSize{burst: 200, batch: 20, inFlight: 40}, "dispatcher", "nats")
}

// orderingDrill kills replicas of those who have to do with order, and restarts NATS, while webhooks that want
// their deliveries in order get them, by the webhook and by the ordering key, and refuse one now and then.
func orderingDrill(t *testing.T, size loadSize, victims ...string) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, nil)
	w := newWorld(t, c, 2, orderedHooks(), orderedEvents)
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "kill -9 of dispatcher, router, scheduler and NATS, with ordered webhooks"}
	for _, service := range victims {
		victim := c.Of(service)[0]
		if service != "nats" {
			victim = choose(t, d, c, s, service)
		}
		k := &kill{service: service, process: victim.Name}
		underLoad(t, d, w, s, r, p, size, blow{
			name: "kill -9 of " + victim.Name,
			strike: func(context.Context) {
				victim.Kill()
				if service == "dispatcher" {
					k.measure(t, s) //nolint:contextcheck // it has the test's
					r.Bound += k.repeatable
				}
			},
			down: d.between(300*time.Millisecond, 2*time.Second), mend: start(t, victim),
		})
	}
	conclude(t, w, s, r, p)
	judgeOrder(t, w, p)
}

// orderedKeys is how many ordering keys an account's events have.
const orderedKeys = 7

// orderedHooks are, in each of two accounts, a webhook of one line, one with a line for each key, and one whose
// deliveries are not ordered.
func orderedHooks() []hookPlan {
	var hooks []hookPlan
	for a := range 2 {
		for _, how := range []string{"strict", "key", "none"} {
			hooks = append(hooks, hookPlan{
				account: a, patterns: []string{"*"}, wants: []string{"order.paid"}, ordering: how,
				schedule: schedule(100*time.Millisecond, 0.5), mood: flaky(.02),
			})
		}
	}
	return hooks
}

func orderedEvents(number int) eventPlan {
	return eventPlan{account: number % 2, eventType: "order.paid", key: "key-" + strconv.Itoa(number/2%orderedKeys)}
}

// judgeOrder holds the lines to their order: each delivery was taken, for the first time, after all of its line
// whose events were accepted before. A crash may repeat an earlier one later.
func judgeOrder(t *testing.T, w *world, p *producer) {
	t.Helper()
	type taken struct {
		number   int
		sequence uint64
		at       time.Time
	}
	lines := make(map[string][]taken)
	p.mu.Lock()
	for number, sequence := range p.sequences {
		e := w.plan(number)
		for _, hook := range w.wants(number) {
			var name string
			switch w.hooks[hook].ordering {
			case "strict":
				name = fmt.Sprintf("webhook %d", hook)
			case "key":
				name = fmt.Sprintf("webhook %d, %s", hook, e.key)
			default:
				continue
			}
			at, _ := w.ledger.arrival(pair{hook, w.ledger.id(number)})
			lines[name] = append(lines[name], taken{number, sequence, at})
		}
	}
	p.mu.Unlock()
	compared, wrong := 0, 0
	for name, list := range lines {
		slices.SortFunc(list, func(a, b taken) int { return cmp.Compare(a.sequence, b.sequence) })
		for i := 1; i < len(list); i++ {
			compared++
			if before, now := list[i-1], list[i]; !before.at.Before(now.at) {
				if wrong++; wrong <= maxFaults {
					t.Errorf("%s: event %d (sequence %d) was taken at %s, and event %d (sequence %d), before it, at %s", name,
						now.number, now.sequence, now.at.Format(time.RFC3339Nano), before.number, before.sequence, before.at.Format(time.RFC3339Nano))
				}
			}
		}
	}
	t.Logf("order: %d lines, %d neighbours compared, %d out of order", len(lines), compared, wrong)
	require.NotZero(t, compared)
}
