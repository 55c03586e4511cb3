package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const publishLong = `Publish an event, or with --file many. The command returns when the event is stored: from
then on it is delivered to every webhook that wants it, whatever happens.

A file has one event on each line, as JSON:

  {"type":"order.paid","data":{"total":120},"idempotency_key":"ord_1"}

with the members type, data (any JSON, sent as it is written), data_base64 (in its place, for
other bytes), content_type, id, source, time, labels, ordering_key, deliver_at, extensions and
idempotency_key. Its events go over one stream and are answered as they are stored, not
necessarily in order. If the stream breaks, events that were not answered may be stored or not:
give them an idempotency_key, or an id and a source, and publish the file again.`

func (p *program) publishCommand() *cobra.Command {
	var flags eventFlags
	var key, file string
	var quiet bool
	c := &cobra.Command{
		Use:   "publish TYPE | --file FILE",
		Short: "Publish events",
		Long:  publishLong,
		Example: `  postrider publish release.live --data '{"isrc":"AUJM02612345"}'
  postrider publish order.paid --data @order.json --idempotency-key ord_1 --label project_id=12
  postrider publish reminder.due --deliver-at +10m
  postrider publish --file events.jsonl
  generate-events | postrider publish --file - --quiet`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	flags.add(f)
	f.StringVar(&key, "idempotency-key", "", "publishing again under the same key stores nothing and gives the first receipt")
	f.StringVar(&file, "file", "", "JSON lines to publish, - for the input")
	f.BoolVar(&quiet, "quiet", false, "with --file: show only what was refused, and the sum")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		switch {
		case file != "" && (len(args) > 0 || key != "" || flags.changed(f)):
			return usagef("--file goes with no TYPE and no flags of an event")
		case file != "":
			return p.publishFile(ctx, cl, file, quiet)
		case len(args) == 0:
			return usagef("name the event's type, or a --file")
		}
		ev, err := flags.event(p, args[0])
		if err != nil {
			return err
		}
		resp, err := cl.events.PublishEvent(ctx, &postriderv1.PublishEventRequest{AccountId: cl.account, Event: ev, IdempotencyKey: key})
		if err != nil {
			return err
		}
		return p.show(resp.GetReceipt(), func(t *table) { receiptFields(t, resp.GetReceipt()) })
	})
	return c
}

func receiptFields(t *table, r *postriderv1.Receipt) {
	t.field("event", r.GetEventId())
	t.field("sequence", strconv.FormatUint(r.GetSequence(), 10))
	t.field("duplicate", strconv.FormatBool(r.GetDuplicate()))
	t.field("accepted", stamp(r.GetAcceptTime()))
	if window := enum(r.GetDedupWindow(), "DEDUP_WINDOW_"); window == "degraded" {
		t.field("dedup window", window)
	}
	t.field("warnings", strings.Join(r.GetWarnings(), "; "))
}
