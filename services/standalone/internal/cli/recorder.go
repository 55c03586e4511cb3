package cli

import (
	"context"
	"strconv"

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
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Drop the delivery log and build it again from the journal",
		Long: `Drop the delivery log and build it again from the journal, in the background. Until that is done the
log does not answer, and says so; deliveries go on. What the journal does not keep any more is lost.
It needs an admin key. postrider recorder status shows how far it is.`,
		Example: "  postrider recorder rebuild",
		Args:    cobra.NoArgs,
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		resp, err := cl.log.RebuildLog(ctx, &postriderv1.RebuildLogRequest{})
		if err != nil {
			return err
		}
		return p.done(resp, "the log is being built again from %d messages of the journal", resp.GetMessages())
	})
	return c
}
