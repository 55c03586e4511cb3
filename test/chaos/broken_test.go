//go:build chaos

package chaos

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mutants are order rules with two steps swapped, and with a crash point between them. The first step
// gets the moment that it takes to get out of the process, which a crash right after it would not
// leave it.
var mutants = map[string]struct {
	edit  edit
	point crashPoint
}{
	"the dispatcher acks before the retry is recorded": {
		edit{
			fileSettle,
			"\tcase p.Retry != nil:\n\t\ts.records.Push(p)\n",
			`	case p.Retry != nil:
		p.Done()
		p.Done = func() {}
		time.AfterFunc(50*time.Millisecond, func() {
			crashPoint("acked, retry not recorded")
			s.records.Push(p)
		})
`,
		},
		crashPoint{service: "dispatcher", name: "acked, retry not recorded"},
	},
	"ingest answers before the event is published": {
		edit{
			fileAccept,
			"\tcase dedup.Claimed, dedup.Blind:\n\t\ta.publish(ctx, e)\n",
			`	case dedup.Claimed, dedup.Blind:
		e.done(Verdict{Receipt: e.receipt(e.result.Event, 1, false)})
		e.done = func(Verdict) {}
		time.AfterFunc(50*time.Millisecond, func() {
			crashPoint("answered, not published")
			a.publish(context.WithoutCancel(ctx), e)
		})
`,
		},
		crashPoint{service: "ingest", name: "answered, not published"},
	},
	"the router acks an event before its deliveries are stored": {
		edit{
			fileRoute,
			"\tfl.send()\n}\n\nfunc (f *Fanout) track(",
			`	_ = msg.Ack()
	time.AfterFunc(50*time.Millisecond, func() {
		crashPoint("acked, nothing stored")
		fl.send()
	})
}

func (f *Fanout) track(`,
		},
		crashPoint{service: "router", name: "acked, nothing stored"},
	},
}

// TestBrokenOrdersLoseDeliveries swaps two steps of an order rule in the real code, has the process
// die between them, and wants the ledger to find what is lost. A drill that is content with a broken
// order would prove nothing of the right one.
func TestBrokenOrdersLoseDeliveries(t *testing.T) {
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			run := newCrashRun(t, buildWith(t, []string{m.point.service}, m.edit))
			k := run.at(t, roll(t), m.point, killSize{burst: 240, batch: 20, inFlight: 20})
			t.Log(k)
			// Once nothing is left to do, nothing that is missing can come any more.
			await(t, 3*time.Minute, time.Second, func() string { return "the deployment does not come to rest" }, func() bool {
				left, err := run.streams.unfinished(t.Context())
				return err == nil && left == 0
			})
			sum := run.world.ledger.total()
			t.Logf("caught: %s: %d of %d deliveries were accepted and are lost", name, len(sum.missing), sum.expected)
			require.NotEmpty(t, sum.missing, "nothing is lost, so the drill does not notice this order")
			require.Empty(t, sum.strangers)
		})
	}
}

// TestShortMutantsFitTheCode holds the mutants to the code that they change, where the drill is too slow
// to run with every change.
func TestShortMutantsFitTheCode(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) { overlay(t, root, t.TempDir(), []edit{m.edit}) })
	}
}
