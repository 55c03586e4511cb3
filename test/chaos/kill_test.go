//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// States of deliveries in the log.
const (
	pending   = postriderv1.DeliveryState_DELIVERY_STATE_PENDING
	waiting   = postriderv1.DeliveryState_DELIVERY_STATE_WAITING
	held      = postriderv1.DeliveryState_DELIVERY_STATE_HELD
	delivered = postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED
	dead      = postriderv1.DeliveryState_DELIVERY_STATE_DEAD
	cancelled = postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
)

// killSize is how big the drill of kills is.
type killSize struct {
	burst    int // events published around each kill, again and again until there was one
	batch    int
	inFlight int  // deliveries that must be in flight at each kill
	ordered  bool // those first whose messages come again after an acknowledgement's wait
}

func TestKillOfEachServiceUnderLoad(t *testing.T) {
	killDrill(t, killSize{burst: 4200, batch: 100, inFlight: 1000})
}

func TestShortKillOfEachServiceUnderLoad(t *testing.T) {
	t.Parallel()
	killDrill(t, killSize{burst: 420, batch: 25, inFlight: 200, ordered: true})
}

// kill is what one kill did.
type kill struct {
	service, process string
	at               time.Time
	accepted         int
	inFlight         int
	busy             int    // what the process had in its hands, or its replicas together
	what             string // of it
	repeatable       int    // of a dispatcher: deliveries that it had and of which nothing was journalled
	shards           []int
	down, ready      time.Duration // until started again, until ready
	published        time.Duration // until the last event of the burst had its receipt
}

// killDrill kills one replica of each service once, with deliveries in flight, and starts it again
// a moment later, while a producer goes on.
func killDrill(t *testing.T, size killSize) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, nil)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "kill -9 of a replica of each service"}

	victims := []string{"dispatcher", "router", "api", "ingest", "scheduler"}
	if !size.ordered {
		d.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	}
	kills := make([]*kill, 0, len(victims))
	for _, service := range victims {
		k := killUnderLoad(t, d, w, s, r, p, size, service)
		kills = append(kills, k)
		t.Log(k)
	}

	// What a crash can repeat: at most one POST for each delivery whose outcome was not stored, and for a router each delivery
	// of its unacknowledged events that its dispatcher has forgotten. Every replica was back before that, so the second is none.
	bound := 0
	for _, k := range kills {
		if k.service == "dispatcher" {
			bound += k.repeatable
		}
	}
	t.Logf("duplicates that the kills can cause: at most %d", bound)

	settle(t, w, s)
	judgeLedger(t, w, kills, bound, p)
	judgeRedis(t, w, p)
	r.Bound = bound
	report(t, w, r)
}

// unsteady is the webhook whose receiver is away now and then. Its breaker holds deliveries back, so
// it says nothing about recovery.
const unsteady = 9

// killHooks are twenty webhooks in four accounts. What they want is said twice: in patterns for
// Postrider, and by name for the ledger.
func killHooks(begin time.Time) []hookPlan {
	var hooks []hookPlan
	retries := schedule(1500*time.Millisecond, 0.5)
	for a := range 4 {
		add := func(m mood, patterns []string, wants ...string) {
			hooks = append(hooks, hookPlan{account: a, patterns: patterns, wants: wants, schedule: retries, mood: m})
		}
		add(fine().after(100*time.Millisecond), []string{"*"}, "order.paid", "order.refunded", "release.live", "release.gone", "track.uploaded")
		add(flaky(.05).after(200*time.Millisecond), []string{"order.*"}, "order.paid", "order.refunded")
		add(fine().after(200*time.Millisecond), []string{"order.paid"}, "order.paid")
		add(flaky(.15).after(50*time.Millisecond), []string{"track.uploaded", "release.live"}, "track.uploaded", "release.live")
		add(flaky(.01), []string{"release.*"}, "release.live", "release.gone")
	}
	// Long enough to trip the breaker, which parks what comes meanwhile.
	hooks[unsteady].mood = outages(begin, 9*time.Second, 1500*time.Millisecond)
	return hooks
}

func killEvents() []eventPlan {
	var events []eventPlan
	for _, name := range []string{"order.paid", "order.refunded", "release.live", "release.gone", "track.uploaded"} {
		for a := range 4 {
			events = append(events, eventPlan{account: a, eventType: name})
		}
	}
	return events
}

// killUnderLoad publishes a burst of events and kills a replica of the service in its midst.
func killUnderLoad(t *testing.T, d dice, w *world, s *streams, r *row, p *producer, size killSize, service string) *kill {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	victim := choose(t, d, w.cluster, s, service)
	k := &kill{service: service, process: victim.Name}

	// The instant: when a share of the burst has its receipts, a moment later, and then at once when
	// the service has something in its hands and enough is in flight.
	from := w.ledger.acceptedCount()
	instant := from + size.burst/10 + d.IntN(size.burst/2)
	moment := d.between(0, 5*time.Millisecond)
	k.down = d.between(300*time.Millisecond, 2500*time.Millisecond)

	killed := make(chan struct{})
	published := p.publishUntil(ctx, killed, from, size.burst)
	state := func() string {
		return fmt.Sprintf("%d events accepted, %d deliveries in flight, %d %s", w.ledger.acceptedCount()-from, w.ledger.inFlight(), k.busy, k.what)
	}
	await(t, time.Minute, time.Millisecond, state, func() bool { return w.ledger.acceptedCount() >= instant })
	require.True(t, pause(ctx, moment))
	await(t, time.Minute, time.Millisecond, state, func() bool {
		var err error
		k.busy, k.what, err = busy(ctx, s, p, service, victim.Name)
		require.NoError(t, err)
		k.inFlight = w.ledger.inFlight()
		return k.busy > 0 && k.inFlight >= size.inFlight
	})
	k.inFlight = r.strike(t, w, "kill of "+victim.Name)
	k.at = time.Now()
	victim.Kill()
	close(killed)
	k.accepted = w.ledger.acceptedCount()
	if service == "dispatcher" {
		k.measure(t, s)
	}

	require.True(t, pause(ctx, time.Until(k.at.Add(k.down))))
	k.down = time.Since(k.at)
	require.NoError(t, victim.Start())
	require.NoError(t, victim.WaitReady(ctx))
	k.ready = time.Since(k.at)
	require.NoError(t, <-published)
	k.published = time.Since(k.at)
	return k
}

// choose picks a replica; of the dispatchers one that holds a shard.
func choose(t *testing.T, d dice, c *cluster.Cluster, s *streams, service string) *cluster.Process {
	t.Helper()
	replicas := c.Of(service)
	d.Shuffle(len(replicas), func(i, j int) { replicas[i], replicas[j] = replicas[j], replicas[i] })
	if service != "dispatcher" {
		return replicas[0]
	}
	var holders []*cluster.Process
	await(t, 30*time.Second, 20*time.Millisecond, func() string { return "not every shard has a holder" }, func() bool {
		holders = holders[:0]
		taken := 0
		for _, p := range replicas {
			held, err := s.held(t.Context(), p.Name)
			require.NoError(t, err)
			if len(held) > 0 {
				holders = append(holders, p)
			}
			taken += len(held)
		}
		return taken == s.shards
	})
	return holders[0]
}

// busy is how much a service has in its hands at this moment, and of what.
func busy(ctx context.Context, s *streams, p *producer, service, instance string) (n int, what string, err error) {
	switch service {
	case "ingest":
		return int(p.calls.Load()), "calls of the producer under way", nil
	case "router":
		n, err = s.unrouted(ctx)
		return n, "events unacknowledged at both routers", err
	case "dispatcher":
		held, err := s.held(ctx, instance)
		if err == nil {
			n, err = s.unacked(ctx, held)
		}
		return n, "messages unacknowledged", err
	case "scheduler":
		n, err = s.waiting(ctx)
		return n, "records of retries", err
	}
	n, err = s.unrecorded(ctx, instance)
	return n, "messages of the journal not recorded", err
}

// measure reads what a killed dispatcher had in its hands. It does so right after the kill: the
// dead acknowledge nothing more, and nobody takes its shards over for another five seconds. Shards of
// the process that it was before, if that was killed too, may change hands meanwhile; then it looks again.
func (k *kill) measure(t *testing.T, s *streams) {
	t.Helper()
	const untilTakenOver = 4 * time.Second
	begun := time.Now()
	held, err := s.held(t.Context(), k.process)
	require.NoError(t, err)
	for looked := false; !looked; {
		require.Less(t, time.Since(begun), untilTakenOver, "shards %v: the look took too long", held)
		k.shards = held
		require.NotEmpty(t, k.shards, "the killed dispatcher held no shard")
		k.repeatable, err = s.repeatable(t.Context(), k.shards)
		require.NoError(t, err)
		held, err = s.held(t.Context(), k.process)
		require.NoError(t, err)
		looked = slices.Equal(held, k.shards)
	}
	require.Less(t, time.Since(begun), untilTakenOver, "shards %v: the look took too long", k.shards)
}

// String tells of the kill, before its recovery is known.
func (k *kill) String() string {
	text := fmt.Sprintf("killed %s with %d events accepted, %d deliveries in flight, %d %s", k.process, k.accepted, k.inFlight, k.busy, k.what)
	if k.service == "dispatcher" {
		text += fmt.Sprintf(", %d deliveries of which nothing was journalled, holder of shards %v", k.repeatable, k.shards)
	}
	return text + fmt.Sprintf("; started again after %s, ready after %s; the burst had all receipts after %s",
		k.down.Round(time.Millisecond), k.ready.Round(time.Millisecond), k.published.Round(time.Millisecond))
}

// settle waits until there is nothing left to do: no event to route, no delivery to attempt, no
// record that waits. What can be repeated has been by then. If it never comes to that, the ledger
// says what is missing.
func settle(t *testing.T, w *world, s *streams) {
	t.Helper()
	awaited(t.Context(), 3*time.Minute, 20*time.Millisecond, func() bool { return w.ledger.inFlight() == 0 })
	var left uint64
	var err error
	if !awaited(t.Context(), 2*time.Minute, 250*time.Millisecond, func() bool {
		left, err = s.unfinished(t.Context())
		return err == nil && left == 0
	}) {
		t.Errorf("%d messages are unfinished (%v)", left, err)
	}
}

// judgeLedger prints the ledger and holds it, and the logs, to their rules.
func judgeLedger(t *testing.T, w *world, kills []*kill, bound int, p *producer) {
	t.Helper()
	logs := readLogs(t, w)
	sum := w.ledger.total()
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, "  "+format+"\n", args...) }
	line("accepted    %d events (%d publishes repeated, %d receipts marked duplicate)", sum.accepted, p.repeats.Load(), p.duplicates.Load())
	line("expected    %d deliveries", sum.expected)
	line("arrived     %d (%d not in the first request)", sum.arrived, sum.retried)
	for i, log := range logs {
		line("log of api-%d: delivered %d, dead %d, waiting %d, held %d, cancelled %d, pending %d", i+1,
			log.states[delivered], log.states[dead], log.states[waiting], log.states[held], log.states[cancelled], log.states[pending])
	}
	line("missing     %d", len(sum.missing))
	line("unexpected  %d", len(sum.strangers))
	line("duplicates  %d, bound %d", sum.duplicates, bound)
	for _, k := range kills {
		line("%-12s killed with %5d in flight; ready after %6s; what was in flight arrived after: %s",
			k.process, k.inFlight, k.ready.Round(time.Millisecond), spread(w.ledger.waits(k.at, func(p pair) bool { return p.hook != unsteady })))
	}
	t.Log("ledger\n" + text.String())

	for _, f := range sum.faults {
		t.Error(f)
	}
	explain(t, w, "missing", sum.missing)
	explain(t, w, "never accepted, or not wanted, but arrived", sum.strangers)
	if sum.duplicates > bound {
		t.Errorf("%d came again after they were taken, and the kills can cause %d: %s", sum.duplicates, bound, sum.whenRepeated(kills))
	}
	for i, log := range logs {
		if !log.agrees(sum.expected) {
			t.Errorf("the log of api-%d does not say of every delivery that it is delivered: %v; %d unknown, such as %v; %v",
				i+1, log.states, len(log.unknown), log.unknown[:min(3, len(log.unknown))], log.err)
		}
	}
}

// whenRepeated places repeats between the kills.
func (s sums) whenRepeated(kills []*kill) string {
	after := map[string]int{}
	for _, at := range s.repeats {
		last := "before the first kill"
		for _, k := range kills {
			if at.After(k.at) {
				last = "after the kill of " + k.process
			}
		}
		after[last]++
	}
	return fmt.Sprint(after)
}

// explain fails for each delivery, with what the log says of it.
func explain(t *testing.T, w *world, what string, pairs []pair) {
	t.Helper()
	for i, p := range pairs {
		if i == 10 {
			t.Errorf("... and %d more are %s", len(pairs)-i, what)
			return
		}
		a := w.accounts[w.hooks[p.hook].account]
		list, err := w.logs[0].ListDeliveries(a.as(t.Context()), &postriderv1.ListDeliveriesRequest{EventId: p.event, WebhookId: w.hookIDs[p.hook]})
		t.Errorf("%s: %s at webhook %d (%s); the log says %v, %v", what, p.event, p.hook, w.hookIDs[p.hook], list.GetDeliveries(), err)
	}
}

// deliveryLog is what one api replica says of all deliveries.
type deliveryLog struct {
	states  map[postriderv1.DeliveryState]int
	unknown []string // what the ledger does not know, or what is there twice
	err     error
}

func (l deliveryLog) agrees(expected int) bool {
	return l.err == nil && len(l.unknown) == 0 && len(l.states) == 1 && l.states[delivered] == expected
}

// readLogs asks every api replica, also the one that was killed, for the state of every delivery.
// A log may lag behind for an acknowledgement's wait.
func readLogs(t *testing.T, w *world) []deliveryLog {
	t.Helper()
	expected := w.ledger.total().expected
	logs := make([]deliveryLog, len(w.logs))
	for replica := range logs {
		awaited(t.Context(), 90*time.Second, time.Second, func() bool {
			logs[replica] = w.readLog(t.Context(), replica)
			return logs[replica].agrees(expected)
		})
	}
	return logs
}

func (w *world) readLog(ctx context.Context, replica int) deliveryLog {
	l := deliveryLog{states: map[postriderv1.DeliveryState]int{}}
	seen := map[pair]bool{}
	l.err = w.logged(ctx, replica, postriderv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED, func(d *postriderv1.Delivery) {
		p := w.pairOf(d)
		if !w.ledger.knows(p) || seen[p] {
			l.unknown = append(l.unknown, d.GetId())
		}
		seen[p] = true
		l.states[d.GetState()]++
	})
	return l
}

// judgeRedis proves that the Redis seams were on the path: every event's key was claimed and
// finished there, unless its receipt says that the window was degraded, which a Redis that is out of
// reach for a moment leads to; and retries were indexed and claimed there.
func judgeRedis(t *testing.T, w *world, p *producer) {
	t.Helper()
	n := calls(t, connectRedis(t, w.cluster))
	accepted, degraded := w.ledger.acceptedCount(), int(p.degraded.Load())
	t.Logf("redis: %d set, %d evalsha, %d eval, %d zadd, %d zrange, %d zincrby; %d of %d receipts degraded",
		n["set"], n["evalsha"], n["eval"], n["zadd"], n["zrange"], n["zincrby"], degraded, accepted)
	require.Less(t, degraded, accepted/2, "most events were deduplicated in Redis")
	require.GreaterOrEqual(t, n["set"], 2*(accepted-degraded), "a claim and its end for each event")
	require.Positive(t, n["evalsha"], "scripts")
	require.Positive(t, n["zadd"], "retries were indexed")
	require.Positive(t, n["zincrby"], "due retries were claimed")
}
