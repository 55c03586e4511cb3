package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) recorderCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "recorder",
		Short: "See and rebuild the delivery log",
		Long: `The recorder copies the journal into the delivery log, which answers for events and deliveries. It
is never on the path of a delivery.`,
	}, p.recorderStatus(), p.recorderRebuild())
}

func (p *program) recorderStatus() *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Say how far the delivery log is behind the journal",
		Example: "  postrider recorder status",
		Args:    cobra.NoArgs,
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		resp, err := cl.log.GetLogStatus(ctx, &postriderv1.GetLogStatusRequest{})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.field("store", resp.GetStore())
			t.field("unrecorded", strconv.FormatInt(resp.GetUnrecorded(), 10))
			t.field("lag", span(resp.GetLag()))
			t.field("recorded", strconv.FormatUint(resp.GetRecordedSequence(), 10)+" of "+strconv.FormatUint(resp.GetJournalSequence(), 10))
			t.field("kept", span(resp.GetRetention()))
			if resp.GetRebuilding() {
				t.field("rebuilding", "yes: the log does not answer until it is done")
			}
		})
	})
	return c
}

func (p *program) recorderRebuild() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Drop the delivery log and build it again from the journal",
		Long: `Drop the delivery log and build it again from the journal, in the background. Until that is done the
log does not answer, and says so; deliveries go on. What the journal does not keep any more is lost.
It needs an admin key. postrider recorder status shows how far it is, --wait waits until it is done.`,
		Example: "  postrider recorder rebuild\n  postrider recorder rebuild --wait",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is built; --timeout does not bound that")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		resp, err := cl.log.RebuildLog(ctx, &postriderv1.RebuildLogRequest{})
		if err != nil {
			return err
		}
		if wait {
			if err := p.rebuilt(ctx, cl); err != nil {
				return err
			}
			return p.done(resp, "the log was built again from %d messages of the journal", resp.GetMessages())
		}
		return p.done(resp, "the log is being built again from %d messages of the journal", resp.GetMessages())
	})
	return c
}

// rebuilt waits until the log holds what the journal held when this was called.
func (p *program) rebuilt(ctx context.Context, cl *client) error {
	g := p.progress()
	defer g.end()
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	var upTo uint64
	for {
		s, err := cl.log.GetLogStatus(ctx, &postriderv1.GetLogStatusRequest{})
		if err != nil {
			return err
		}
		if upTo == 0 {
			upTo = s.GetJournalSequence()
		}
		if !s.GetRebuilding() && s.GetRecordedSequence() >= upTo {
			return nil
		}
		g.show("building the delivery log", int64(s.GetRecordedSequence()), int64(upTo), "") //nolint:gosec // places in a stream
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the delivery log, which goes on: %w", ctx.Err())
		}
	}
}
