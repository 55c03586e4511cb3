package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// maxFollowed bounds the deliveries that are followed at once: the newest.
	maxFollowed = 5 * maxPage
	// logLag is how far the log may be behind: a delivery may appear in it so much later than one
	// that was routed after it.
	logLag = 30 * time.Second
)

func (p *program) deliveriesTail() *cobra.Command {
	var filter deliveryFilter
	var interval time.Duration
	var count int
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show deliveries as their states change",
		Long: fmt.Sprintf(`Show deliveries that are routed from now on, or from --since on, as their states change, until
it is interrupted. The newest %d are followed.`, maxFollowed),
		Example: `  postrider deliveries tail
  postrider deliveries tail --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --since -10m -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&filter.webhook, "webhook", "", "of this webhook")
	f.StringVar(&filter.event, "event", "", "of this event")
	f.StringVar(&filter.eventType, "type", "", "of this event type")
	f.StringVar(&filter.since, "since", "", "routed at or after, such as -1h or 2026-11-21T18:00:00Z; default: now")
	f.DurationVar(&interval, "interval", time.Second, "how often to ask")
	f.IntVar(&count, "count", 0, "end after so many changes; 0 for never")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		if interval <= 0 {
			return usagef("--interval must be positive")
		}
		req, err := filter.request(cl.account, p.now())
		if err != nil {
			return err
		}
		if req.StartTime == nil {
			req.StartTime = timestamppb.New(p.now())
		}
		t := &tail{p: p, cl: cl, req: req, seen: map[string]string{}, left: count}
		return t.follow(ctx, interval)
	})
	return c
}

// tail follows deliveries by asking for them again and again.
type tail struct {
	p    *program
	cl   *client
	req  *postriderv1.ListDeliveriesRequest
	seen map[string]string // the last change shown of each delivery
	left int               // changes to show; 0 for no end
}

// follow asks until the context ends or all is shown that was asked for. A server that is away is
// asked again: it may be restarting.
func (t *tail) follow(ctx context.Context, interval time.Duration) error {
	if t.p.globals.output == outputTable {
		if _, err := fmt.Fprintf(t.p.Out, tailLine, "UPDATED", "STATE", "ATTEMPTS", "LAST", "TYPE", "DELIVERY", "WEBHOOK"); err != nil {
			return err
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	t.p.note("following deliveries that are routed from %s on", stamp(t.req.GetStartTime()))
	away := false
	for {
		done, err := t.ask(ctx)
		kind, _ := fault.KindOf(err)
		switch {
		case done, ctx.Err() != nil:
			return nil
		case kind == fault.Unavailable:
			if !away {
				t.p.note("the server is away; asking again")
			}
			away = true
		case err != nil:
			return err
		default:
			away = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

const tailLine = "%-20s  %-9s  %-8s  %-12s  %-24s  %-30s  %s\n"

// ask shows what changed since the last time; true when all is shown that was asked for.
func (t *tail) ask(ctx context.Context) (bool, error) {
	list, _, err := pages(maxFollowed, func(size int32, token string) ([]*postriderv1.Delivery, string, error) {
		t.req.PageSize, t.req.PageToken = size, token
		resp, err := t.cl.deliveries.ListDeliveries(ctx, t.req)
		return resp.GetDeliveries(), resp.GetNextPageToken(), err
	})
	if err != nil {
		return false, err
	}
	slices.SortStableFunc(list, func(a, b *postriderv1.Delivery) int {
		return a.GetUpdateTime().AsTime().Compare(b.GetUpdateTime().AsTime())
	})
	still := make(map[string]string, len(list))
	for _, d := range list {
		change := fmt.Sprint(d.GetState(), d.GetAttemptCount(), d.GetUpdateTime().AsTime().UnixNano())
		still[d.GetId()] = change
		if t.seen[d.GetId()] == change {
			continue
		}
		if err := t.show(d); err != nil {
			return false, err
		}
		if t.left > 0 {
			if t.left--; t.left == 0 {
				return true, nil
			}
		}
	}
	t.seen = still
	t.advance(list)
	return false, nil
}

func (t *tail) show(d *postriderv1.Delivery) error {
	if t.p.globals.output == outputJSON {
		return showLine(t.p.Out, d)
	}
	_, err := fmt.Fprintf(t.p.Out, tailLine, stamp(d.GetUpdateTime()), enum(d.GetState(), statePrefix), strconv.Itoa(int(d.GetAttemptCount())),
		cell(lastResult(d)), d.GetEventType(), d.GetId(), d.GetWebhookId())
	return err
}

// advance asks the next time only from the oldest delivery on that can still change, so that what
// is asked for stays small.
func (t *tail) advance(list []*postriderv1.Delivery) {
	from := t.p.now().Add(-logLag)
	for _, d := range list {
		if !ended(d.GetState()) && d.GetCreateTime().AsTime().Before(from) {
			from = d.GetCreateTime().AsTime()
		}
	}
	if from.After(t.req.GetStartTime().AsTime()) {
		t.req.StartTime = timestamppb.New(from)
	}
}

func ended(s postriderv1.DeliveryState) bool {
	return s == postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED || s == postriderv1.DeliveryState_DELIVERY_STATE_DEAD ||
		s == postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
}
