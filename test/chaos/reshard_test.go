//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

func TestTheNumberOfShardsChangesUnderLoad(t *testing.T) {
	reshardDrill(t, loadSize{burst: 4200, batch: 100, inFlight: 1000})
}

func TestShortTheNumberOfShardsChangesUnderLoad(t *testing.T) {
	t.Parallel()
	reshardDrill(t, loadSize{burst: 420, batch: 25, inFlight: 200, ahead: 2000})
}

// reshardDrill changes the number of shards three times under load, by the command that an operator has:
// to more, to fewer, and to more again while a dispatcher that holds shards and a scheduler are killed and
// the index is emptied. Deliveries are in flight, wait for their schedule and are held throughout.
func reshardDrill(t *testing.T, size loadSize) {
	t.Helper()
	d := roll(t)
	c := startCluster(t, nil)
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: size.batch, ahead: size.ahead}
	r := &row{Fault: "the number of shards changed, a dispatcher and a scheduler killed"}

	webhooks := postriderv1.NewWebhookServiceClient(dial(t, c.APITarget()))
	held := heldWebhooks(w)
	for _, i := range held {
		_, err := webhooks.PauseWebhook(w.accounts[w.hooks[i].account].as(t.Context()), &postriderv1.PauseWebhookRequest{WebhookId: w.hookIDs[i]})
		require.NoError(t, err)
	}
	change := func(to int, beside func()) blow {
		changed := make(chan error, 1)
		return blow{
			name: fmt.Sprintf("change to %d shards", to),
			strike: func(ctx context.Context) {
				go func() { changed <- setShards(ctx, t, c, to) }()
				beside()
			},
			mend: func(ctx context.Context) {
				require.NoError(t, <-changed)
				s.shards = max(s.shards, to)
				require.True(t, awaited(ctx, time.Minute, 20*time.Millisecond, func() bool {
					_, err := s.unacked(ctx, s.all())
					return err == nil
				}), "nobody works on the new shards")
			},
		}
	}
	nothing := func() {}
	underLoad(t, d, w, s, r, p, size, change(shards+2, nothing))
	underLoad(t, d, w, s, r, p, size, change(shards-1, nothing))
	r.Bound = 0 // nothing died
	kills := func() {
		for _, service := range []string{"dispatcher", "scheduler"} {
			victim := choose(t, d, c, s, service)
			k := &kill{service: service, process: victim.Name}
			victim.Kill()
			if service == "dispatcher" {
				k.measure(t, s)
				r.Bound = k.repeatable
			}
			require.NoError(t, victim.Start())
			require.NoError(t, victim.WaitReady(t.Context()))
		}
		require.NoError(t, connectRedis(t, c).FlushAll(t.Context()).Err())
	}
	underLoad(t, d, w, s, r, p, size, change(shards+4, kills))

	for _, i := range held {
		_, err := webhooks.ResumeWebhook(w.accounts[w.hooks[i].account].as(t.Context()), &postriderv1.ResumeWebhookRequest{WebhookId: w.hookIDs[i]})
		require.NoError(t, err)
	}
	conclude(t, w, s, r, p)
}

// heldWebhooks is one webhook of each account, one of those that want one type.
func heldWebhooks(w *world) []int {
	seen := make(map[int]bool)
	var out []int
	for i, h := range w.hooks {
		if len(h.wants) == 1 && !seen[h.account] {
			seen[h.account] = true
			out = append(out, i)
		}
	}
	return out
}

// setShards runs the command, which waits until nothing is left on a shard that its webhook has left.
func setShards(ctx context.Context, t *testing.T, c *cluster.Cluster, shards int) error {
	t.Helper()
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin(), "postrider"), "shards", "set", strconv.Itoa(shards), "-o", "json", "--nats-url", c.NATSURL)
	out, err := cmd.Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return err
	}
	var got struct{ Shards, Before int }
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	if got.Shards != shards || got.Before != 0 {
		return fmt.Errorf("%d shards and %d before: want %d and none", got.Shards, got.Before, shards)
	}
	return nil
}
