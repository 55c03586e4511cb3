package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const statePrefix = "DELIVERY_STATE_"

func (p *program) deliveriesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "deliveries",
		Aliases: []string{"delivery"},
		Short:   "See and steer deliveries",
		Long: `A delivery is one event for one webhook. It is pending, waiting (for its next attempt) or held
(because its webhook is), until it is delivered, dead or cancelled. The log that these commands
read is a moment behind.`,
	}, p.deliveriesList(), p.deliveriesShow(), p.deliveriesAttempts(), p.deliveriesCancel(), p.deliveriesRetry(), p.deliveriesReplay(), p.deliveriesTail(),
		p.deliveriesFind(), p.deliveriesExpunge())
}

// deliveryFilter are the flags that choose deliveries.
type deliveryFilter struct {
	event, webhook, state, eventType, callID, outcome, since, until string
	status                                                          int32
}

func (d *deliveryFilter) add(f *pflag.FlagSet) {
	f.StringVar(&d.event, "event", "", "of this event")
	f.StringVar(&d.webhook, "webhook", "", "of this webhook")
	f.StringVar(&d.state, "state", "", "in this state: pending, waiting, delivered, dead, cancelled or held")
	f.StringVar(&d.eventType, "type", "", "of this event type")
	f.StringVar(&d.callID, "call-id", "", "with this UUID")
	f.StringVar(&d.outcome, "outcome", "", "whose last attempt was succeeded, retryable, permanent or gone")
	f.Int32Var(&d.status, "status", 0, "whose last attempt was answered with this HTTP status")
	f.StringVar(&d.since, "since", "", "routed at or after, such as -1h or 2026-11-21T18:00:00Z")
	f.StringVar(&d.until, "until", "", "routed before, such as -5m or 2026-11-21T18:00:00Z")
}

func (d *deliveryFilter) request(account string, now time.Time) (*postriderv1.ListDeliveriesRequest, error) {
	state, err := choice("--state", d.state, statePrefix, postriderv1.DeliveryState_value)
	if err != nil {
		return nil, err
	}
	start, err := moment("--since", d.since, now)
	if err != nil {
		return nil, err
	}
	end, err := moment("--until", d.until, now)
	if err != nil {
		return nil, err
	}
	return &postriderv1.ListDeliveriesRequest{
		AccountId: account, EventId: d.event, WebhookId: d.webhook, State: postriderv1.DeliveryState(state),
		EventType: d.eventType, CallId: d.callID, StartTime: start, EndTime: end, Outcome: d.outcome, StatusCode: d.status,
	}, nil
}

func (p *program) deliveriesList() *cobra.Command {
	var filter deliveryFilter
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List deliveries, newest first",
		Example: `  postrider deliveries list
  postrider deliveries list --state waiting --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider deliveries list --event evt_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider deliveries list --since -1h --state dead --limit 0 -o json`,
		Args: cobra.NoArgs,
	}
	filter.add(c.Flags())
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		req, err := filter.request(cl.account, p.now())
		if err != nil {
			return err
		}
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.Delivery, string, error) {
			req.PageSize, req.PageToken = size, token
			resp, err := cl.deliveries.ListDeliveries(ctx, req)
			return resp.GetDeliveries(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListDeliveriesResponse{Deliveries: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "STATE", "ATTEMPTS", "LAST", "TYPE", "EVENT", "WEBHOOK", "CREATED", "NEXT ATTEMPT")
			for _, d := range list {
				t.row(d.GetId(), enum(d.GetState(), statePrefix), strconv.Itoa(int(d.GetAttemptCount())), cell(lastResult(d)), d.GetEventType(),
					d.GetEventId(), d.GetWebhookId(), stamp(d.GetCreateTime()), cell(stamp(d.GetNextAttemptTime())))
			}
		})
	})
	return c
}

// lastResult is the last attempt in a word.
func lastResult(d *postriderv1.Delivery) string {
	if d.GetLastStatusCode() > 0 {
		return strconv.Itoa(int(d.GetLastStatusCode()))
	}
	return d.GetLastErrorClass()
}

func (p *program) deliveriesAttempts() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "attempts DELIVERY",
		Short:   "List the attempts of a delivery, oldest first",
		Long:    "List the attempts of a delivery, oldest first; -o json shows requests and responses too.",
		Example: "  postrider deliveries attempts dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h",
		Args:    cobra.ExactArgs(1),
	}
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.Attempt, string, error) {
			resp, err := cl.deliveries.ListAttempts(ctx, &postriderv1.ListAttemptsRequest{AccountId: cl.account, DeliveryId: args[0], PageSize: size, PageToken: token})
			return resp.GetAttempts(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListAttemptsResponse{Attempts: list, NextPageToken: next}, func(t *table) {
			t.row("NUMBER", "OUTCOME", "STATUS", "ERROR", "STARTED", "TOOK", "TRIGGER", "NEXT ATTEMPT", "RESPONSE")
			for _, a := range list {
				status := ""
				if a.GetStatusCode() > 0 {
					status = strconv.Itoa(int(a.GetStatusCode()))
				}
				t.row(strconv.Itoa(int(a.GetNumber())), a.GetOutcome(), cell(status), cell(a.GetErrorClass()), stamp(a.GetStartTime()),
					a.GetDuration().AsDuration().Round(100*time.Microsecond).String(), a.GetTrigger(), cell(stamp(a.GetNextAttemptTime())), excerpt(a.GetResponseBody()))
			}
		})
	})
	return c
}

func (p *program) deliveriesCancel() *cobra.Command {
	c := &cobra.Command{
		Use:   "cancel DELIVERY|EVENT|WEBHOOK",
		Short: "End a delivery that was not delivered, all of an event, or what waits for a webhook",
		Example: `  postrider deliveries cancel dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h
  postrider deliveries cancel evt_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider deliveries cancel wh_01HF7YAT00ZZZZZZZZZZZZZZZZ`,
		Args: cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		if postrider.EventID(args[0]).Valid() {
			resp, err := cl.deliveries.CancelEvent(ctx, &postriderv1.CancelEventRequest{AccountId: cl.account, EventId: args[0]})
			if err != nil {
				return err
			}
			return p.done(resp, "cancelled %s: %d removed, %d marked, which end unless they are delivered just now", args[0], resp.GetRemoved(), resp.GetMarked())
		}
		if postrider.WebhookID(args[0]).Valid() {
			return p.cancelWaiting(ctx, cl, args[0])
		}
		resp, err := cl.deliveries.CancelDelivery(ctx, &postriderv1.CancelDeliveryRequest{AccountId: cl.account, DeliveryId: args[0]})
		if err != nil {
			return err
		}
		if resp.GetRemoved() {
			return p.done(resp, "cancelled %s", args[0])
		}
		return p.done(resp, "%s is being attempted: it ends as cancelled unless this attempt succeeds", args[0])
	})
	return c
}

// cancelWaiting ends what waits for a webhook, in as many calls as it takes.
func (p *program) cancelWaiting(ctx context.Context, cl *client, webhook string) error {
	sum := &postriderv1.CancelWebhookDeliveriesResponse{}
	for !sum.GetComplete() {
		resp, err := cl.deliveries.CancelWebhookDeliveries(ctx, &postriderv1.CancelWebhookDeliveriesRequest{AccountId: cl.account, WebhookId: webhook})
		if err != nil {
			return err
		}
		sum.Removed, sum.Marked, sum.Complete = sum.GetRemoved()+resp.GetRemoved(), sum.GetMarked()+resp.GetMarked(), resp.GetComplete()
	}
	return p.done(sum, "cancelled what waits for %s: %d removed, %d marked, which end unless they are delivered just now", webhook, sum.GetRemoved(), sum.GetMarked())
}

func (p *program) deliveriesRetry() *cobra.Command {
	c := &cobra.Command{
		Use:   "retry DELIVERY",
		Short: "Make one attempt of a delivery now, beside its schedule",
		Long: `Make one attempt of a delivery now, beside its schedule, and tell how it went. If it succeeds
the delivery is delivered; if it fails, everything stays as it was, and the exit code is 1.`,
		Example: "  postrider deliveries retry dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.deliveries.RetryDelivery(ctx, &postriderv1.RetryDeliveryRequest{AccountId: cl.account, DeliveryId: args[0]})
		if err != nil {
			return err
		}
		a := resp.GetAttempt()
		err = p.show(resp, func(t *table) {
			t.field("outcome", a.GetOutcome())
			if a.GetStatusCode() > 0 {
				t.field("status", strconv.Itoa(int(a.GetStatusCode())))
			}
			t.field("error class", a.GetErrorClass())
			t.field("message", a.GetErrorMessage())
			t.field("took", a.GetDuration().AsDuration().Round(time.Millisecond).String())
			t.field("response", excerpt(a.GetResponseBody()))
		})
		if err == nil && a.GetOutcome() != "succeeded" {
			return errTestFailed
		}
		return err
	})
	return c
}
