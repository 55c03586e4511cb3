//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// Where the steps are.
const (
	fileAccept   = "services/ingest/internal/admission/flow.go"
	fileRoute    = "services/router/internal/fanout/fanout.go"
	fileFlight   = "services/router/internal/fanout/flight.go"
	fileAttempt  = "services/dispatcher/internal/pipeline/attempt.go"
	fileParcel   = "services/dispatcher/internal/pipeline/parcel.go"
	fileSettle   = "services/dispatcher/internal/settle/settle.go"
	fileHandOver = "services/dispatcher/internal/settle/handover.go"
	fileSchedule = "services/scheduler/internal/grpcapi/schedule.go"
	fileRelease  = "services/scheduler/internal/release/handle.go"
	fileHold     = "services/scheduler/internal/hold/hold.go"
	fileDrain    = "services/scheduler/internal/hold/drain.go"
	fileRecord   = "services/api/internal/recorder/recorder.go"
)

// crashPoints are those of the order rules that a deployment under load passes by itself, with
// webhooks paused and resumed. Those of a replay and a redrive have tests of their own
// (services/api/internal/replay), which kill at every step.
var crashPoints = []crashPoint{
	{service: "ingest", name: "claimed, not published", file: fileAccept, after: "\t\ta.metrics.claim(e.result.Outcome)"},
	{service: "ingest", name: "published, claim not finished", file: fileAccept, after: "\tcase e.keyed:"},
	{service: "ingest", name: "claim finished, not answered", file: fileAccept, after: "\treleaseErr := a.index.Release(ctx, released)"},

	{service: "router", name: "event pulled, nothing stored", file: fileRoute, after: "\tf.track(fl)"},
	{service: "router", name: "a delivery or the routed entry stored, not all", file: fileFlight, after: "func (fl *flight) settle(p part, err error) {"},
	{service: "router", name: "all stored, event not acked", file: fileRoute, after: "func (f *Fanout) finish(fl *flight) {"},

	{service: "dispatcher", name: "allowed, not POSTed", file: fileAttempt, after: "\tj.lane.Sending(time.Now())"},
	{service: "dispatcher", name: "POSTed, not journalled", file: fileAttempt, after: "\ts.judged(j, result)"},
	{service: "dispatcher", name: "journalled, not acked", file: fileSettle, after: "\t\tp.Entry, p.tries = nil, 0"},
	{service: "dispatcher", name: "journalled, retry not recorded", file: fileSettle, after: "\tcase p.Retry != nil:"},
	{service: "dispatcher", name: "settled, others of its message not", file: fileParcel, after: "\tp.began = true"},
	{service: "dispatcher", name: "retry recorded, not acked", file: fileHandOver, after: "\ts.schedulerAnswered()"},

	{service: "scheduler", name: "recorded, not indexed", file: fileSchedule, after: "\tresults, standing := s.store(ctx, retries)"},
	{service: "scheduler", name: "indexed, not answered", file: fileSchedule, after: "\ts.index(ctx, entries)"},
	{service: "scheduler", name: "claimed, not released", file: fileRelease, after: "\tctx = context.WithoutCancel(ctx)"},
	{service: "scheduler", name: "released, member not dropped", file: fileRelease, after: "\t\tl.failing.Store(false)"},
	{service: "scheduler", name: "hold journalled, not recorded", file: fileHold, before: "\terrs := make([]error, len(list))"},
	{service: "scheduler", name: "resume journalled, not released", file: fileDrain, before: "\terrs := make([]error, len(list))"},

	{service: "api", name: "recorded, journal not acked", file: fileRecord, after: "\tr.entries.Add(ctx, int64(said.Entries()))"},
}

// TestKillAtEachCrashPoint has a replica kill itself between each two steps of the order rules, at a
// passage that the seed chooses, under load, and starts it again.
func TestKillAtEachCrashPoint(t *testing.T) {
	crashDrill(t, buildWith(t, cluster.Services), crashPoints, killSize{burst: 600, batch: 50, inFlight: 100})
}

func TestShortKillAtEachCrashPoint(t *testing.T) {
	t.Parallel()
	crashDrill(t, buildWith(t, cluster.Services), crashPoints, killSize{burst: 120, batch: 20, inFlight: 20})
}

// crashDrill kills at each of the points and judges the ledger.
func crashDrill(t *testing.T, bin string, points []crashPoint, size killSize) {
	t.Helper()
	d := roll(t)
	run := newCrashRun(t, bin)
	calm := pauses(t, run.world, d.Uint64())
	order := d.Perm(len(points))
	kills := make([]*kill, 0, len(points))
	for _, i := range order {
		k := run.at(t, d, points[i], size)
		kills = append(kills, k)
		t.Logf("%s: %s", points[i].name, k)
	}
	calm()
	t.Logf("%d of %d crash points were met", len(kills), len(points))
	bound := 0
	for _, k := range kills {
		if k.service == "dispatcher" {
			bound += k.repeatable
		}
	}
	settle(t, run.world, run.streams)
	judgeLedger(t, run.world, kills, bound, run.producer)
	run.row.Bound = bound
	report(t, run.world, run.row)
}

// crashRun is a deployment with crash points and what is done to it.
type crashRun struct {
	world    *world
	streams  *streams
	producer *producer
	row      *row
	dir      string // of what processes are told
}

func newCrashRun(t *testing.T, bin string) *crashRun {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{"POSTRIDER_CRASH_POINTS": dir, "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker}
	c := startAdjusted(t, env, func(_ *cluster.Cluster, p *cluster.Process) error {
		if built := filepath.Join(bin, p.Service); exists(built) {
			p.Path = built
		}
		return nil
	})
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	r := &crashRun{
		world: w, streams: watchStreams(t, c), producer: &producer{w: w, batch: 20}, dir: dir,
		row: &row{Fault: "kill -9 at each crash point of the order rules"},
	}
	return r
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// at arms a point of one replica under load, waits until that has died there, and starts it again.
func (r *crashRun) at(t *testing.T, d dice, point crashPoint, size killSize) *kill {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r.producer.batch = size.batch
	victim := choose(t, d, r.world.cluster, r.streams, point.service)
	k := &kill{service: point.service, process: victim.Name, what: "passages of " + point.name}
	from := r.world.ledger.acceptedCount()
	killed := make(chan struct{})
	published := r.producer.publishUntil(ctx, killed, from, size.burst)
	await(t, time.Minute, time.Millisecond, func() string { return "too little in flight" }, func() bool { return r.world.ledger.inFlight() >= size.inFlight })

	k.busy = 1 + d.IntN(5)
	file := filepath.Join(r.dir, victim.Name)
	require.NoError(t, os.WriteFile(file+".new", fmt.Appendf(nil, "%s\n%d", point.name, k.busy), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	k.inFlight = r.row.strike(t, r.world, victim.Name+" is to die when "+point.name)
	await(t, 2*time.Minute, time.Millisecond, func() string { return victim.Name + " never got to the point: " + point.name }, func() bool { return !victim.Running() })
	k.at = time.Now()
	close(killed)
	met, err := os.ReadFile(file + ".met")
	require.NoError(t, err, "%s died of something else: %s", victim.Name, victim.Tail(20))
	require.Equal(t, point.name, string(met))
	require.NoError(t, errors.Join(os.Remove(file), os.Remove(file+".met")))
	k.accepted = r.world.ledger.acceptedCount()
	if point.service == "dispatcher" {
		k.measure(t, r.streams)
	}
	r.restart(ctx, t, victim, k)
	require.NoError(t, <-published)
	k.published = time.Since(k.at)
	return k
}

func (r *crashRun) restart(ctx context.Context, t *testing.T, victim *cluster.Process, k *kill) {
	t.Helper()
	k.down = time.Since(k.at)
	require.NoError(t, victim.Start())
	require.NoError(t, victim.WaitReady(ctx))
	k.ready = time.Since(k.at)
}

// pauses pauses and resumes one webhook after the other until the function that it returns is called,
// which returns when all are active. What a call cannot do now, because a process has just died, is
// done by the next.
func pauses(t *testing.T, w *world, seed uint64) func() {
	t.Helper()
	webhooks := postriderv1.NewWebhookServiceClient(dial(t, w.cluster.APITarget()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	resume := func(hook int) error {
		_, err := webhooks.ResumeWebhook(w.accounts[w.hooks[hook].account].as(t.Context()), &postriderv1.ResumeWebhookRequest{WebhookId: w.hookIDs[hook]})
		return err
	}
	go func() {
		defer close(ended)
		for n := int(seed % uint64(len(w.hooks))); pause(ctx, 200*time.Millisecond); n++ {
			hook := n % len(w.hooks)
			_, _ = webhooks.PauseWebhook(w.accounts[w.hooks[hook].account].as(ctx), &postriderv1.PauseWebhookRequest{WebhookId: w.hookIDs[hook]})
			pause(ctx, 400*time.Millisecond)
			_ = resume(hook)
		}
	}()
	return func() {
		cancel()
		<-ended
		for hook := range w.hooks {
			await(t, time.Minute, 50*time.Millisecond, func() string { return "a webhook cannot be resumed" }, func() bool { return resume(hook) == nil })
		}
	}
}
