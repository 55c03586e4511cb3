//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/tcpproxy"
)

// network is the proxies through which services reach NATS, by process.
type network map[string]*tcpproxy.Proxy

// startNetwork runs a deployment each of whose services reaches NATS through a proxy of its own.
func startNetwork(t *testing.T) (*cluster.Cluster, network) {
	t.Helper()
	n := network{}
	t.Cleanup(func() { // after the deployment has ended
		for _, p := range n {
			p.Close()
		}
	})
	c := startClusterOf(t, cluster.Options{NATSThrough: func(process, address string) (string, error) {
		p, err := tcpproxy.Start(address)
		if err != nil {
			return "", err
		}
		n[process] = p
		return p.Addr(), nil
	}})
	return c, n
}

// part parts the processes from NATS: their connections break, or nothing passes any more and
// nobody is told.
func (n network) part(hole bool, processes ...*cluster.Process) {
	for _, p := range processes {
		if hole {
			n[p.Name].BlackHole()
		} else {
			n[p.Name].Cut()
		}
	}
}

func (n network) heal(processes ...*cluster.Process) {
	for _, p := range processes {
		n[p.Name].Heal()
	}
}

func TestServicesPartedFromNATSUnderLoad(t *testing.T) {
	d := roll(t)
	c, n := startNetwork(t)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: natsLoad.batch}
	r := &row{Fault: "services parted from NATS: all, and one dispatcher"}

	// A dispatcher that is parted for longer than its lease lasts has outcomes that it cannot store,
	// of messages that another is given after the acknowledgement's wait. It begins nothing more
	// within a second, when its configuration is not proven any more. So what can come twice is what
	// dispatchers had, right after the strike.
	const lease = 5 * time.Second
	counted := func(shards []int) {
		t.Helper()
		repeatable, err := s.repeatable(t.Context(), shards)
		require.NoError(t, err)
		r.Bound += repeatable
		t.Logf("of %d deliveries of shards %v nothing is journalled", repeatable, shards)
	}
	everyone := services(c)
	for _, hole := range []bool{false, true} {
		underLoad(t, d, w, s, r, p, natsLoad, blow{
			name: "all services parted from NATS, " + manner(hole),
			strike: func(context.Context) {
				n.part(hole, everyone...)
				counted(s.all())
			},
			down: d.between(lease, 4*lease),
			mend: func(ctx context.Context) {
				n.heal(everyone...)
				for _, p := range everyone {
					require.NoError(t, p.WaitReady(ctx))
				}
			},
		})
	}
	for _, hole := range []bool{false, true} {
		victim := choose(t, d, c, s, "dispatcher")
		underLoad(t, d, w, s, r, p, natsLoad, blow{
			name: fmt.Sprintf("%s parted from NATS, %s", victim.Name, manner(hole)),
			busy: func(ctx context.Context) (int, error) {
				held, err := s.held(ctx, victim.Name)
				if err != nil {
					return 0, err
				}
				return s.unacked(ctx, held)
			},
			strike: func(ctx context.Context) {
				held, err := s.held(ctx, victim.Name)
				require.NoError(t, err)
				n.part(hole, victim)
				counted(held)
			},
			mend: func(ctx context.Context) {
				require.True(t, awaited(ctx, time.Minute, 50*time.Millisecond, func() bool {
					held, err := s.held(ctx, victim.Name)
					return err == nil && len(held) == 0
				}), "nobody took the shards of %s over", victim.Name)
				n.heal(victim)
				require.NoError(t, victim.WaitReady(ctx))
			},
		})
	}
	conclude(t, w, s, r, p)
}

func manner(hole bool) string {
	if hole {
		return "nothing passes"
	}
	return "connections cut"
}

// services lists every process that is no store.
func services(c *cluster.Cluster) []*cluster.Process {
	var list []*cluster.Process
	for _, service := range cluster.Services {
		list = append(list, c.Of(service)...)
	}
	return list
}
