package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
)

func (p *program) shardsCommand() *cobra.Command {
	c := p.natsCommand(&cobra.Command{
		Use:   "shards",
		Short: "Show into how many shards deliveries are split, and change it",
		Long: `Show into how many shards deliveries are split, and what each of them holds: deliveries that wait for
their first attempt, and retries, waiting or due. One dispatcher works on a shard at a time, so more
dispatchers than shards stand by.`,
		Example: `  postrider shards --nats-url nats://nats:4222`,
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, nc *nats.Conn, _ []string) error {
		t, c, err := topology.Open(ctx, nc)
		if err != nil {
			return err
		}
		defer c.Close()
		layout, err := t.Refresh(ctx)
		if err != nil {
			return err
		}
		return p.showShards(ctx, c, layout)
	})
	c.AddCommand(p.setShardsCommand())
	return c
}

// settleEvery is how often the topology is asked whether a change is finished.
const settleEvery = time.Second

func (p *program) setShardsCommand() *cobra.Command {
	return p.natsCommand(&cobra.Command{
		Use:   "set N",
		Short: "Change the number of shards while everything runs",
		Long: `Change the number of shards, 1 to 256, while everything runs. The streams of new shards are made like
those of the first. From then on each webhook's deliveries go to its new shard, and what waits on the
one that it has left moves there. The command waits for that; it may be interrupted, and the change goes
on. Until it is finished, attempts to one webhook may be made by two dispatchers for some seconds, so that
its limits hold for each of them. NATS users need the right to make streams.`,
		Example: `  postrider shards set 8 --nats-url nats://nats:4222`,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, nc *nats.Conn, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > postrider.MaxShards {
			return fmt.Errorf("the number of shards is %q: want 1 to %d", args[0], postrider.MaxShards)
		}
		t, c, err := topology.Open(ctx, nc)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := errors.Join(deliverystream.Grow(ctx, c, n), retrystream.Grow(ctx, c, n)); err != nil {
			return err
		}
		layout, err := t.Change(ctx, n)
		if err != nil {
			return err
		}
		if layout, err = p.awaitSettled(ctx, t, layout); err != nil {
			return err
		}
		return p.showShards(ctx, c, layout)
	})
}

// awaitSettled waits until nothing is left on a shard that its webhook has left.
func (p *program) awaitSettled(ctx context.Context, t *topology.Topology, l postrider.Layout) (postrider.Layout, error) {
	g := p.progress()
	defer g.end()
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for l.Before != 0 {
		g.show(fmt.Sprintf("moving what waits from %d to %d shards", l.Before, l.Shards), 0, 0, "")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l, fmt.Errorf("the change is made and goes on, but is not finished: %w", ctx.Err())
		}
		var err error
		if l, err = t.Refresh(ctx); err != nil {
			return l, err
		}
	}
	return l, nil
}

// shardState is what a shard holds.
type shardState struct {
	Shard      int    `json:"shard"`
	InUse      bool   `json:"in_use"`
	Deliveries uint64 `json:"deliveries"`
	Retries    uint64 `json:"retries"`
}

func (p *program) showShards(ctx context.Context, c *stream.Client, l postrider.Layout) error {
	states := make([]shardState, l.Streams)
	for n := range states {
		deliveries, err1 := c.Messages(ctx, deliverystream.Name(n))
		retries, err2 := c.Messages(ctx, retrystream.Name(n))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		states[n] = shardState{Shard: n, InUse: n < l.Shards, Deliveries: deliveries, Retries: retries}
	}
	if p.globals.output == outputJSON {
		text, err := json.MarshalIndent(map[string]any{"shards": l.Shards, "before": l.Before, "streams": states}, "", "  ")
		if err != nil {
			return err
		}
		_, err = p.Out.Write(append(text, '\n'))
		return err
	}
	return p.showTable(func(t *table) {
		t.row("SHARD", "USE", "DELIVERIES", "RETRIES")
		for _, s := range states {
			use := "in use"
			if !s.InUse {
				use = "left"
			}
			t.row(strconv.Itoa(s.Shard), use, strconv.FormatUint(s.Deliveries, 10), strconv.FormatUint(s.Retries, 10))
		}
		if l.Before != 0 {
			t.line(fmt.Sprintf("%d shards; what waits is still moving from %d", l.Shards, l.Before))
		} else {
			t.line(fmt.Sprintf("%d shards", l.Shards))
		}
	})
}
