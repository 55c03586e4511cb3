//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/tcpproxy"
)

// redisSize is how big a drill of Redis is.
type redisSize struct {
	waiting int // retries that wait when it strikes
	batch   int
	delay   time.Duration // of the first retry of each; 0.3 of it more at random
	late    time.Duration // how much later a retry may arrive than the fault explains
}

var (
	redisFull  = redisSize{waiting: 4000, batch: 100, delay: 40 * time.Second, late: 5 * time.Second}
	redisShort = redisSize{waiting: 300, batch: 25, delay: 20 * time.Second, late: besideOthers}
)

// redisFault is what happens to Redis.
type redisFault struct {
	name string
	// early happens when half of the retries wait; nil for nothing.
	early func(g *redisRig)
	// strike is the blow, and heal its end, a moment after it; nil if the blow ends itself.
	strike, heal func(g *redisRig)
	lasts        [2]time.Duration // least and most time between them
	// silent says that nothing tells the schedulers of what the index lost. Retries may then come
	// by their record's own firing, late by the grace.
	silent bool
}

// Faults of Redis.
var (
	restartedEmpty = redisFault{
		name: "Redis killed and restarted empty", lasts: [2]time.Duration{500 * time.Millisecond, 3 * time.Second},
		strike: func(g *redisRig) { g.server.Kill() },
		heal:   func(g *redisRig) { g.start(g.server) },
	}
	oldSnapshot = redisFault{
		name:   "Redis restored from an old snapshot",
		early:  func(g *redisRig) { require.NoError(g.t, g.client.Save(g.t.Context()).Err()) },
		strike: func(g *redisRig) { g.server.Kill(); g.start(g.server) },
	}
	laggingReplica = redisFault{
		name:   "Redis failed over to a replica without the last writes",
		early:  (*redisRig).replicateAndStop,
		strike: (*redisRig).failOver,
	}
	slowRedis = redisFault{
		name: "Redis slow", lasts: [2]time.Duration{6 * time.Second, 10 * time.Second}, silent: true,
		strike: func(g *redisRig) { g.proxy.Delay(g.d.between(150*time.Millisecond, 700*time.Millisecond)) },
		heal:   func(g *redisRig) { g.proxy.Heal() },
	}
	fullRedis = redisFault{
		name: "Redis full", lasts: [2]time.Duration{6 * time.Second, 10 * time.Second}, silent: true,
		strike: func(g *redisRig) { g.limitMemory("1mb") }, // less than it has: every write is refused
		heal:   func(g *redisRig) { g.limitMemory("0") },
	}
)

func TestRedisRestartedEmpty(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisFull, restartedEmpty)
}

func TestRedisRestoredFromAnOldSnapshot(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisFull, oldSnapshot)
}

func TestRedisFailsOverToALaggingReplica(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisFull, laggingReplica)
}

func TestRedisSlow(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisFull, slowRedis)
}

func TestRedisFull(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisFull, fullRedis)
}

func TestShortRedisFailsOverToALaggingReplica(t *testing.T) {
	t.Parallel()
	redisDrill(t, redisShort, laggingReplica)
}

// laterFrom is the number from which events are for the webhook whose retries wait long enough to
// be compared with the index.
const (
	laterFrom = 3_000_000
	typeLater = "later.run"
	laterWait = 30 * time.Second
)

func redisPlan(number int) eventPlan {
	if number >= laterFrom {
		return eventPlan{eventType: typeLater}
	}
	return waitPlan(number)
}

// Times of those drills. The record knows the keys of events for a moment only, so that what is
// recognised later was recognised by the window in Redis.
const (
	msgIDWindow = 12 * time.Second
	silentGrace = 12 * time.Second
	otherGrace  = 10 * time.Minute // whatever comes before was released from the index
	// besideOthers is what a small drill allows that runs beside others, on machines of all kinds.
	besideOthers = time.Minute
)

// redisRig is a deployment whose services reach Redis through a proxy.
type redisRig struct {
	t      *testing.T
	d      dice
	c      *cluster.Cluster
	w      *world
	proxy  *tcpproxy.Proxy
	server *cluster.Process
	client *redis.Client // of the server, past the proxy

	standby        *cluster.Process
	standbyAddress string
	standbyClient  *redis.Client
}

func newRedisRig(t *testing.T, size redisSize, fault redisFault) *redisRig {
	t.Helper()
	g := &redisRig{t: t, d: roll(t)}
	grace := otherGrace
	if fault.silent {
		grace = silentGrace
	}
	g.c = startClusterOf(t, cluster.Options{Env: map[string]string{
		"POSTRIDER_RETRIES_GRACE": grace.String(), "POSTRIDER_DISPATCHER_BREAKER_FAILURES": patientBreaker,
		"POSTRIDER_STREAMS_DUPLICATE_WINDOW": msgIDWindow.String(), "POSTRIDER_INGEST_TAKEOVER": (msgIDWindow - time.Second).String(),
	}, Adjust: func(c *cluster.Cluster, p *cluster.Process) error {
		if g.proxy == nil {
			var err error
			if g.proxy, err = tcpproxy.Start(strings.TrimSuffix(strings.TrimPrefix(c.RedisURL, "redis://"), "/0")); err != nil {
				return err
			}
			t.Cleanup(g.proxy.Close)
		}
		p.Env = append(p.Env, "POSTRIDER_REDIS_URL=redis://"+g.proxy.Addr()+"/0")
		return nil
	}})
	later := []string{typeLater}
	hooks := append(waitWorldHooks(schedule(size.delay, 0.3)), hookPlan{patterns: later, wants: later, schedule: schedule(laterWait, 0), mood: stubborn()})
	g.w = newWorld(t, g.c, waitAccounts, hooks, redisPlan)
	g.server, g.client = g.c.Of("redis")[0], connectRedis(t, g.c)
	return g
}

func (g *redisRig) start(p *cluster.Process) {
	g.t.Helper()
	require.NoError(g.t, p.Start())
	require.NoError(g.t, p.WaitReady(g.t.Context()))
}

// replicateAndStop gives the server a replica, waits until it has everything, and stops it from
// getting more.
func (g *redisRig) replicateAndStop() {
	g.t.Helper()
	opts := g.client.Options()
	host, port, err := net.SplitHostPort(opts.Addr)
	require.NoError(g.t, err)
	g.standby, g.standbyAddress, err = g.c.AddRedis("redis-standby", "--replicaof", host, port)
	require.NoError(g.t, err)
	g.start(g.standby)
	g.standbyClient = redis.NewClient(&redis.Options{
		Addr: g.standbyAddress, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	g.t.Cleanup(func() { _ = g.standbyClient.Close() })
	var info string
	await(g.t, 30*time.Second, 20*time.Millisecond, func() string { return "the replica has not synchronised: " + info }, func() bool {
		info, err = g.standbyClient.Info(g.t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	// A replica of nobody gets no more, and is no master for anyone before the services are sent to it.
	require.NoError(g.t, g.standbyClient.Do(g.t.Context(), "REPLICAOF", "NO", "ONE").Err())
}

// failOver kills the server and sends the services to the replica.
func (g *redisRig) failOver() {
	g.t.Helper()
	g.server.Kill()
	g.proxy.Retarget(g.standbyAddress)
	g.client = g.standbyClient
}

func (g *redisRig) limitMemory(limit string) {
	g.t.Helper()
	require.NoError(g.t, g.client.ConfigSet(g.t.Context(), "maxmemory", limit).Err())
}

// redisDrill strikes Redis while retries wait and other events flow, and producers repeat what was
// accepted before.
func redisDrill(t *testing.T, size redisSize, fault redisFault) {
	t.Helper()
	g := newRedisRig(t, size, fault)
	w, s := g.w, watchStreams(t, g.c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: fault.name}

	require.NoError(t, p.publish(t.Context(), 0, size.waiting/2))
	if fault.early != nil {
		fault.early(g)
	}
	require.NoError(t, p.publish(t.Context(), size.waiting/2, size.waiting))
	due := dues(t, w, size.delay, w.pairs(0, size.waiting))
	first, last := bounds(due)
	stop := flow(t, p)

	at := first.Add(g.d.between(-2*time.Second, last.Sub(first)/2))
	require.Positive(t, time.Until(at), "the machine is too slow: the time for the strike has passed")
	require.True(t, pause(t.Context(), time.Until(at)))
	r.strike(t, w, fault.name)
	struck := time.Now()
	fault.strike(g)
	// What comes again meanwhile is recognised, or its receipt says that it may not have been.
	during := &producer{w: w, batch: size.batch, late: true}
	repeated := make(chan error, 1)
	go func() { repeated <- during.publish(t.Context(), 0, size.waiting/10) }()
	if fault.heal != nil {
		require.True(t, pause(t.Context(), g.d.between(fault.lasts[0], fault.lasts[1])))
		fault.heal(g)
	}
	healed := time.Now()
	require.NoError(t, <-repeated)

	late := lateness(t, w, due, last.Add(healed.Sub(struck)+2*time.Minute))
	explained := healed.Sub(struck)
	if fault.silent {
		explained += silentGrace
	}
	t.Logf("%s lasted %s; lateness of %d retries: %s", fault.name, healed.Sub(struck).Round(time.Millisecond), len(late), spread(late))
	require.GreaterOrEqual(t, late[0], -early, "early")
	require.LessOrEqual(t, late[len(late)-1], explained+size.late, "late")
	stop()

	windowReturns(t, w, size)
	r.Recovery = late[len(late)-1]
	t.Logf("while it lasted: %d of %d repeats recognised, %d degraded; every key of before is known %s after the strike",
		during.duplicates.Load(), size.waiting/10, during.degraded.Load(), time.Since(struck).Round(time.Millisecond))
	indexEqualsRecord(t, g, s, p)
	judgeAll(t, w, s, p)
	report(t, w, r)
}

// windowReturns publishes what was accepted before the strike again, until receipts vouch for the
// window, and then all of it: each is known by its first id. The record itself has forgotten the keys.
func windowReturns(t *testing.T, w *world, size redisSize) {
	t.Helper()
	sample := min(size.waiting, 100)
	await(t, 2*time.Minute, time.Second, func() string { return "receipts still say that the window is degraded" }, func() bool {
		p := &producer{w: w, batch: size.batch, late: true}
		require.NoError(t, p.publish(t.Context(), 0, sample))
		return p.degraded.Load() == 0
	})
	p := &producer{w: w, batch: size.batch} // a second event for a key is a fault now
	require.NoError(t, p.publish(t.Context(), 0, size.waiting))
	require.Zero(t, p.degraded.Load(), "receipts of a degraded window")
	require.EqualValues(t, size.waiting, p.duplicates.Load(), "receipts that are marked as those of duplicates")
}

// laterEvents are how many retries wait while the index is compared with the record.
const laterEvents = 60

// indexEqualsRecord has some retries wait, and compares: nothing that waits is missing in the index,
// and nothing else is in it.
func indexEqualsRecord(t *testing.T, g *redisRig, s *streams, p *producer) {
	t.Helper()
	var named []*postriderv1.Imbalance
	var sum *postriderv1.ReconcileSummary
	next := laterFrom
	// Records that could not be indexed while Redis was away are put back by the sweep, every minute.
	await(t, 3*time.Minute, time.Second, func() string { return fmt.Sprintf("unbalanced: %v (%v)", named, sum) }, func() bool {
		require.NoError(t, p.publish(t.Context(), next, next+laterEvents))
		dues(t, g.w, laterWait, g.w.pairs(next, next+laterEvents))
		next += laterEvents
		var err error
		named, sum, err = reconcile(t.Context(), g)
		require.NoError(t, err)
		return sum.GetImbalances() == 0 && sum.GetIndexCompared() && sum.GetRecords() >= laterEvents
	})
	t.Logf("reconcile: %v", sum)
	var members, records int
	await(t, time.Minute, 200*time.Millisecond, func() string {
		return fmt.Sprintf("%d members of the index for %d records", members, records)
	}, func() bool {
		var err error
		members, err = indexed(t.Context(), g.client)
		require.NoError(t, err)
		records, err = s.waiting(t.Context())
		require.NoError(t, err)
		return members == records
	})
	t.Logf("%d members of the index for %d records", members, records)
}

// reconcile asks the api service to compare everything with everything.
func reconcile(ctx context.Context, g *redisRig) ([]*postriderv1.Imbalance, *postriderv1.ReconcileSummary, error) {
	stream, err := postriderv1.NewLedgerServiceClient(dial(g.t, g.c.APITarget())).Reconcile(as(ctx, g.c.AdminKey), &postriderv1.ReconcileRequest{})
	if err != nil {
		return nil, nil, err
	}
	var named []*postriderv1.Imbalance
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return named, nil, errors.New("reconcile ended without a summary")
		}
		if err != nil {
			return named, nil, err
		}
		if i := resp.GetImbalance(); i != nil {
			named = append(named, i)
		}
		if sum := resp.GetSummary(); sum != nil {
			return named, sum, nil
		}
	}
}

// indexed counts the members of the retry index: each slot is a sorted set, two of whose members
// are its epoch, with scores below zero.
func indexed(ctx context.Context, client *redis.Client) (int, error) {
	sum := 0
	keys := client.Scan(ctx, 0, "postrider:retry:{*}:due", 1000).Iterator()
	for keys.Next(ctx) {
		n, err := client.ZCount(ctx, keys.Val(), "0", "+inf").Result()
		if err != nil {
			return 0, err
		}
		sum += int(n)
	}
	return sum, keys.Err()
}
