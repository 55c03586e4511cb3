//go:build chaos

package chaos

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/cluster"
)

// natsLoad is the load of the drills of the NATS server.
var natsLoad = loadSize{burst: 2000, batch: 100, inFlight: 300}

func TestNATSRestartedAndKilledUnderLoad(t *testing.T) {
	natsDrill(t, natsLoad, 3)
}

func TestShortNATSKilledUnderLoad(t *testing.T) {
	t.Parallel()
	natsDrill(t, loadSize{burst: 300, batch: 25, inFlight: 50}, 1)
}

// natsDrill kills the one NATS server, and, if it is to do so more than once, stops it in order in
// between. Nothing else dies: whoever attempts deliveries remembers what it has done, so nothing
// may come twice although the server forgets acknowledgements of a moment before.
func natsDrill(t *testing.T, size loadSize, blows int) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, nil)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch}
	r := &row{Fault: "the NATS server killed, and restarted"}
	server := c.Of("nats")[0]
	for n := range blows {
		b := blow{
			name: "kill -9 of the NATS server", strike: func(context.Context) { server.Kill() },
			down: d.between(100*time.Millisecond, 4*time.Second), mend: start(t, server),
		}
		if n%2 == 1 {
			b.name, b.strike = "restart of the NATS server", stop(t, server)
		}
		underLoad(t, d, w, s, r, p, size, b)
	}
	conclude(t, w, s, r, p)
}

// start starts a process that is down.
func start(t *testing.T, p *cluster.Process) func(context.Context) {
	t.Helper()
	return func(ctx context.Context) {
		t.Helper()
		require.NoError(t, p.Start())
		require.NoError(t, p.WaitReady(ctx))
	}
}

// stopPatience is how long a process may take to stop.
const stopPatience = 40 * time.Second

// stop asks a process to stop, and waits until it has.
func stop(t *testing.T, p *cluster.Process) func(context.Context) {
	t.Helper()
	return func(context.Context) {
		t.Helper()
		require.NoError(t, p.Stop(stopPatience))
	}
}

// startNodes runs a deployment on three NATS servers, every stream on all of them.
func startNodes(t *testing.T) *cluster.Cluster {
	t.Helper()
	return startClusterOf(t, cluster.Options{NATSNodes: 3})
}

func TestOneOfThreeNATSNodesLostUnderLoad(t *testing.T) {
	d := roll(t)
	c := startNodes(t)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: natsLoad.batch}
	r := &row{Fault: "a node of three lost, leaders moved, streams on all three"}
	nodes := c.Of("nats")

	lost := nodes[d.IntN(len(nodes))]
	underLoad(t, d, w, s, r, p, natsLoad, blow{
		name: "kill -9 of " + lost.Name, strike: func(context.Context) { lost.Kill() },
		down: d.between(2*time.Second, 10*time.Second), mend: start(t, lost),
	})

	stream := "DELIVERIES_" + strconv.Itoa(d.IntN(shards))
	underLoad(t, d, w, s, r, p, natsLoad, blow{
		name: "the leader of " + stream + " moved",
		strike: func(ctx context.Context) {
			before := s.leader(ctx, t, stream)
			// Whoever steps down may be elected again, if the others are behind: then it is asked again.
			moved := func() bool {
				now, err := s.leaderNow(ctx, stream)
				return err == nil && now != "" && now != before
			}
			require.True(t, awaited(ctx, 2*time.Minute, 100*time.Millisecond, func() bool {
				s.stepDown(ctx, t, stream)
				return awaited(ctx, 10*time.Second, 50*time.Millisecond, moved)
			}), "%s is still led by %s", stream, before)
		},
		mend: func(context.Context) {},
	})

	leader := c.Process(s.leader(t.Context(), t, stream))
	require.NotNil(t, leader)
	underLoad(t, d, w, s, r, p, natsLoad, blow{
		name: "kill -9 of " + leader.Name + ", which leads " + stream, strike: func(context.Context) { leader.Kill() },
		down: d.between(2*time.Second, 10*time.Second), mend: start(t, leader),
	})
	conclude(t, w, s, r, p)
}

// leader is the server that leads a stream, waited for.
func (s *streams) leader(ctx context.Context, t *testing.T, stream string) string {
	t.Helper()
	var name string
	var err error
	require.True(t, awaited(ctx, time.Minute, 50*time.Millisecond, func() bool {
		name, err = s.leaderNow(ctx, stream)
		return err == nil && name != ""
	}), "%s has no leader", stream)
	return name
}

func (s *streams) leaderNow(ctx context.Context, stream string) (string, error) {
	st, err := s.js.Stream(ctx, stream)
	if err != nil || st.CachedInfo().Cluster == nil {
		return "", err
	}
	return st.CachedInfo().Cluster.Leader, nil
}

// stepDown has the leader of a stream hand over to another.
func (s *streams) stepDown(ctx context.Context, t *testing.T, stream string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := s.js.Conn().RequestMsgWithContext(ctx, nats.NewMsg("$JS.API.STREAM.LEADER.STEPDOWN."+stream))
	require.NoError(t, err)
}
