//go:build chaos

package chaos

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/clockstep"
)

// clockSize is how big the drill of the clocks is.
type clockSize struct {
	services []string // whose clocks are stepped
	waiting  int
	batch    int
	delay    time.Duration // of the first retry of each; 0.3 of it more at random
	late     time.Duration // how much later a retry may arrive than the steps explain
}

func TestClocksStepByAnHour(t *testing.T) {
	t.Parallel()
	clockDrill(t, clockSize{services: cluster.Services, waiting: 2000, batch: 100, delay: 40 * time.Second, late: 5 * time.Second})
}

func TestShortClocksStepByAnHour(t *testing.T) {
	t.Parallel()
	clockDrill(t, clockSize{services: []string{"scheduler", "dispatcher", "ingest"}, waiting: 200, batch: 25, delay: 20 * time.Second, late: besideOthers})
}

// Records fire by the clock of NATS, and what a consumer gave out is given again by it.
func TestTheClockOfNATSStepsByAnHour(t *testing.T) {
	t.Parallel()
	clockDrill(t, clockSize{services: []string{"nats"}, waiting: 2000, batch: 100, delay: 40 * time.Second, late: 5 * time.Second})
}

// theStep is how far a clock is stepped.
const theStep = time.Hour

// startStepped is a deployment of binaries whose clocks can be stepped, one clock for each service
// that is named.
func startStepped(t *testing.T, services []string, env map[string]string) (*cluster.Cluster, map[string]*clockstep.Clock) {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	bin := t.TempDir()
	var packages []string
	clocks := map[string]*clockstep.Clock{}
	for _, service := range services {
		if slices.Contains(cluster.Services, service) {
			packages = append(packages, "./services/"+service+"/cmd/"+service)
		}
		clocks[service], err = clockstep.New(filepath.Join(bin, service+".clock"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = clocks[service].Close() })
	}
	begun := time.Now()
	if len(packages) > 0 {
		require.NoError(t, clockstep.Build(t.Context(), root, bin, packages...))
	}
	if clocks["nats"] != nil {
		require.NoError(t, clockstep.BuildAlone(t.Context(), filepath.Join(root, "tools", "nats"), bin, "github.com/nats-io/nats-server/v2"))
	}
	t.Logf("built %v with clocks that can be stepped, in %s", services, time.Since(begun).Round(time.Second))
	return startClusterOf(t, cluster.Options{Env: env, Adjust: func(_ *cluster.Cluster, p *cluster.Process) error {
		if clock := clocks[p.Service]; clock != nil {
			p.Path = filepath.Join(bin, filepath.Base(p.Path))
			p.Env = append(p.Env, clock.Env())
		}
		return nil
	}}), clocks
}

// clockDrill steps the clock of one service after another forwards by an hour, then to an hour
// behind, then back, while retries wait and other events flow. What a step may do is change when a
// retry comes: early where a scheduler is ahead, and late where a dispatcher was ahead when it said
// when the retry is due. Nothing else.
func clockDrill(t *testing.T, size clockSize) {
	t.Helper()
	d := roll(t)
	c, clocks := startStepped(t, size.services, map[string]string{
		"POSTRIDER_RETRIES_GRACE": otherGrace.String(), "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
		"POSTRIDER_STREAMS_DUPLICATE_WINDOW": msgIDWindow.String(), "POSTRIDER_INGEST_TAKEOVER": (msgIDWindow - time.Second).String(),
	})
	w := newWorld(t, c, waitAccounts, waitWorldHooks(schedule(size.delay, 0.3)), waitPlan)
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "clocks of " + strings.Join(size.services, ", ") + " stepped by an hour, ahead and behind"}

	require.NoError(t, p.publish(t.Context(), 0, size.waiting))
	due := dues(t, w, size.delay, w.pairs(0, size.waiting))
	_, last := bounds(due)
	stop := flow(t, p)

	order := slices.Clone(size.services)
	d.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	begun := time.Now()
	for _, service := range order {
		for _, off := range []time.Duration{theStep, -theStep} {
			require.True(t, pause(t.Context(), d.between(200*time.Millisecond, time.Second)))
			r.strike(t, w, fmt.Sprintf("the clock of %s steps to %s off", service, off))
			clocks[service].Set(off)
			require.True(t, pause(t.Context(), d.between(time.Second, 2*time.Second)))
		}
		clocks[service].Set(0)
	}
	stepped := time.Since(begun)

	// Whatever was waiting before had its due time from a clock that was right.
	var late []time.Duration
	arrivals := func() int {
		late = late[:0]
		for p, at := range due {
			if arrived, _ := w.ledger.arrival(p); !arrived.IsZero() {
				late = append(late, arrived.Sub(at))
			}
		}
		return len(late)
	}
	await(t, time.Until(last)+stepped+2*time.Minute, 100*time.Millisecond, func() string {
		return fmt.Sprintf("%d of %d retries arrived", len(late), len(due))
	}, func() bool { return arrivals() == len(due) })
	slices.Sort(late)
	t.Logf("steps for %s; lateness of %d retries: %s", stepped.Round(time.Millisecond), len(late), spread(late))
	require.LessOrEqual(t, late[len(late)-1], stepped+size.late, "late")
	r.Recovery = max(late[len(late)-1], 0) // a clock that is ahead has them arrive early
	stop()

	windowReturns(t, w, redisSize{waiting: size.waiting, batch: size.batch})
	readable(t, w)
	// What a dispatcher that was ahead put off is there still, for the hour that the step explains:
	// when the schedulers' clock has come that far it arrives.
	waits, err := s.waiting(t.Context())
	require.NoError(t, err)
	t.Logf("%d retries wait for an hour that a clock was ahead", waits)
	if clock := clocks["scheduler"]; clock != nil {
		clock.Set(theStep)
	}
	judgeAll(t, w, s, p)
	report(t, w, r)
}

// readable publishes some events again, among them such as were accepted while the clock of ingest
// was off, and reads them back where their receipts say.
func readable(t *testing.T, w *world) {
	t.Helper()
	w.ledger.mu.Lock()
	numbers := slices.Sorted(maps.Keys(w.ledger.events))
	w.ledger.mu.Unlock()
	for i := 0; i < len(numbers); i += max(1, len(numbers)/300) {
		n := numbers[i]
		ctx, id := w.accounts[w.plan(n).account].as(t.Context()), w.ledger.id(n)
		again, err := w.publishing.PublishEvent(ctx, w.request(n))
		require.NoError(t, err, "event %d, %s", n, id)
		receipt := again.GetReceipt()
		if receipt.GetDedupWindow() == postriderv1.DedupWindow_DEDUP_WINDOW_DEGRADED {
			w.ledger.acceptAgain(n, receipt.GetEventId(), time.Now())
		} else {
			require.Equal(t, id, receipt.GetEventId(), "event %d has two ids, and the window is said to be whole", n)
			require.True(t, receipt.GetDuplicate(), "event %d, %s", n, id)
		}
		got, err := w.publishing.GetEvent(ctx, &postriderv1.GetEventRequest{EventId: receipt.GetEventId(), Sequence: receipt.GetSequence()})
		require.NoError(t, err, "event %d, %s", n, receipt.GetEventId())
		require.Equal(t, w.data(n), got.GetEvent().GetData())
	}
}
