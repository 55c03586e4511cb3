package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) deadLettersCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "dead-letters",
		Aliases: []string{"dead-letter", "deadletters"},
		Short:   "See deliveries that will not be tried again, and redrive them",
	}, p.deadLettersList(), p.deadLettersShow(), p.deadLettersSummary(), p.deadLettersRedrive())
}

func (p *program) deadLettersList() *cobra.Command {
	var webhook, cause, eventType string
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first, without their data",
		Example: `  postrider dead-letters list --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider dead-letters list --cause exhausted --type order.paid`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&webhook, "webhook", "", "of this webhook")
	c.Flags().StringVar(&cause, "cause", "", "of this cause: exhausted, permanent or expired")
	c.Flags().StringVar(&eventType, "type", "", "of this event type")
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.DeadLetter, string, error) {
			resp, err := cl.deliveries.ListDeadLetters(ctx, &postriderv1.ListDeadLettersRequest{
				AccountId: cl.account, WebhookId: webhook, Cause: cause, EventType: eventType, PageSize: size, PageToken: token,
			})
			return resp.GetDeadLetters(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListDeadLettersResponse{DeadLetters: list, NextPageToken: next}, func(t *table) {
			t.row("DELIVERY", "CAUSE", "ATTEMPTS", "LAST", "TYPE", "EVENT", "WEBHOOK", "DIED")
			for _, d := range list {
				t.row(d.GetDeliveryId(), d.GetCause(), strconv.Itoa(int(d.GetAttemptCount())), cell(lastOf(d)), d.GetEventType(),
					d.GetEventId(), d.GetWebhookId(), stamp(d.GetCreateTime()))
			}
		})
	})
	return c
}

// lastOf is the last attempt in a word.
func lastOf(d *postriderv1.DeadLetter) string {
	if d.GetLastStatusCode() > 0 {
		return strconv.Itoa(int(d.GetLastStatusCode()))
	}
	return d.GetLastErrorClass()
}

func (p *program) deadLettersShow() *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use:   "show DELIVERY",
		Short: "Show a dead letter",
		Example: `  postrider dead-letters show dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h
  postrider dead-letters show dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h --data > payload.json`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&raw, "data", false, "print the event's data, byte for byte, and nothing else")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.deliveries.GetDeadLetter(ctx, &postriderv1.GetDeadLetterRequest{AccountId: cl.account, DeliveryId: args[0]})
		if err != nil {
			return err
		}
		d := resp.GetDeadLetter()
		if raw {
			_, err := p.Out.Write(d.GetData())
			return err
		}
		return p.show(d, func(t *table) {
			t.field("delivery", d.GetDeliveryId())
			t.field("cause", d.GetCause())
			t.field("attempts", strconv.Itoa(int(d.GetAttemptCount())))
			t.field("last result", lastOf(d))
			t.field("event", d.GetEventId())
			t.field("type", d.GetEventType())
			t.field("webhook", d.GetWebhookId())
			t.field("died", stamp(d.GetCreateTime()))
			t.field("expires", stamp(d.GetExpireTime()))
			t.field("content type", d.GetContentType())
			t.field("data", excerpt(d.GetData()))
		})
	})
	return c
}
