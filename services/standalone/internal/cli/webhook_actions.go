package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) webhooksPause() *cobra.Command {
	c := &cobra.Command{
		Use:     "pause WEBHOOK",
		Short:   "Hold a webhook's deliveries",
		Long:    "Hold a webhook's deliveries. No attempt starts after the command has returned; what comes is kept.",
		Example: "  postrider webhooks pause wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.PauseWebhook(ctx, &postriderv1.PauseWebhookRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.showWebhook(resp.GetWebhook())
	})
	return c
}

func (p *program) webhooksResume() *cobra.Command {
	c := &cobra.Command{
		Use:     "resume WEBHOOK",
		Short:   "Make a paused or disabled webhook active",
		Long:    "Make a paused or disabled webhook active. What was held is delivered, at the webhook's rate.",
		Example: "  postrider webhooks resume wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.ResumeWebhook(ctx, &postriderv1.ResumeWebhookRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.showWebhook(resp.GetWebhook())
	})
	return c
}

func (p *program) webhooksRotate() *cobra.Command {
	var text string
	var overlap time.Duration
	c := &cobra.Command{
		Use:   "rotate-secret WEBHOOK",
		Short: "Make a new secret and show it, once",
		Long:  "Make a new secret and show it, once. The old ones sign too until the overlap ends.",
		Example: `  postrider webhooks rotate-secret wh_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider webhooks rotate-secret wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --overlap 1h --secret file:secret.txt`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&text, "secret", "", "the new secret; file:/path reads a file; default: generated")
	f.DurationVar(&overlap, "overlap", 0, "how long the old ones go on signing, 0s to 168h; default: 24h")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		given, err := secret("--secret", text)
		if err != nil {
			return err
		}
		req := &postriderv1.RotateWebhookSecretRequest{AccountId: cl.account, WebhookId: args[0], Secret: given}
		if f.Changed("overlap") {
			req.Overlap = durationpb.New(overlap)
		}
		resp, err := cl.webhooks.RotateWebhookSecret(ctx, req)
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			webhookFields(t, resp.GetWebhook())
			secretField(t, resp.GetSecret())
		})
	})
	return c
}

func (p *program) webhooksSecrets() *cobra.Command {
	c := &cobra.Command{
		Use:     "secrets WEBHOOK",
		Short:   "Show the secrets that a webhook signs with",
		Long:    "Show the secrets that a webhook signs with, newest first. The audit log says who has looked.",
		Example: "  postrider webhooks secrets wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.GetWebhookSecrets(ctx, &postriderv1.GetWebhookSecretsRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.row("ID", "KIND", "SIGNS UNTIL", "SECRET")
			for _, s := range resp.GetSecrets() {
				d := s.GetDescription()
				t.row(d.GetId(), d.GetKind(), cell(stamp(d.GetExpireTime())), s.GetSecret())
			}
		})
	})
	return c
}

// errTestFailed is the exit code of a test whose attempt failed; what happened was shown.
var errTestFailed = &codeError{exitFailure, errors.New("the attempt failed")}

func (p *program) webhooksTest() *cobra.Command {
	var flags eventFlags
	var eventType string
	c := &cobra.Command{
		Use:   "test WEBHOOK",
		Short: "Make one signed attempt now and tell how it went",
		Long: `Make one signed attempt now, without retry, and tell how it went. Without --type it sends
the catalogue's example of the first event type that the webhook wants. Exit code 1 says that
the attempt failed.`,
		Example: `  postrider webhooks test wh_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider webhooks test wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --type release.live --data @release.json`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&eventType, "type", "", "type of the event to send")
	flags.add(f)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		req := &postriderv1.TestWebhookRequest{AccountId: cl.account, WebhookId: args[0]}
		if eventType != "" {
			ev, err := flags.event(p, eventType)
			if err != nil {
				return err
			}
			req.Event = ev
		} else if flags.changed(f) {
			return usagef("an event of your own needs --type")
		}
		resp, err := cl.webhooks.TestWebhook(ctx, req)
		if err != nil {
			return err
		}
		err = p.show(resp, func(t *table) {
			t.field("success", strconv.FormatBool(resp.GetSuccess()))
			if resp.GetStatusCode() > 0 {
				t.field("status", strconv.Itoa(int(resp.GetStatusCode())))
			}
			t.field("error class", resp.GetErrorClass())
			t.field("message", resp.GetMessage())
			t.field("took", resp.GetDuration().AsDuration().Round(time.Millisecond).String())
			t.field("response", excerpt(resp.GetResponseBody()))
		})
		if err == nil && !resp.GetSuccess() {
			return errTestFailed
		}
		return err
	})
	return c
}

// excerpt is the beginning of a body, on one line.
func excerpt(body []byte) string {
	const most = 200
	text := []rune(string(body))
	if len(text) > most {
		return string(text[:most]) + "..."
	}
	return string(text)
}

func (p *program) webhooksExplain() *cobra.Command {
	var flags eventFlags
	c := &cobra.Command{
		Use:   "explain TYPE",
		Short: "Say which webhooks an event would reach, and why not the others",
		Long:  "Say which webhooks an event would reach, and why not the others. Nothing is published.",
		Example: `  postrider webhooks explain release.live
  postrider webhooks explain order.paid --data '{"total":120}' --label project_id=12`,
		Args: cobra.ExactArgs(1),
	}
	flags.add(c.Flags())
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		ev, err := flags.event(p, args[0])
		if err != nil {
			return err
		}
		resp, err := cl.webhooks.ExplainMatch(ctx, &postriderv1.ExplainMatchRequest{AccountId: cl.account, Event: ev})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.row("WEBHOOK", "REACHED", "STATE", "WHY NOT", "DETAIL")
			for _, e := range resp.GetExplanations() {
				reached := "no"
				if e.GetMatched() {
					reached = "yes"
				}
				t.row(e.GetWebhookId(), reached, enum(e.GetState(), "WEBHOOK_STATE_"), cell(e.GetReason()), e.GetDetail())
			}
		})
	})
	return c
}

func (p *program) webhooksBacklog() *cobra.Command {
	c := &cobra.Command{
		Use:   "backlog WEBHOOK",
		Short: "Count what waits for a webhook, and say since when it fails",
		Long: "Count the deliveries that are held or wait for a webhook, with the age of the oldest, and say since when all\n" +
			"of its attempts have failed, if they do.",
		Example: "  postrider webhooks backlog wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.GetWebhookBacklog(ctx, &postriderv1.GetWebhookBacklogRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.row("WHY", "COUNT", "OLDEST EVENT", "NEXT ATTEMPT")
			for _, b := range []struct {
				why     string
				backlog *postriderv1.Backlog
			}{{"held", resp.GetHeld()}, {"waiting", resp.GetWaiting()}, {"parked", resp.GetParked()}, {"delayed", resp.GetDelayed()}} {
				t.row(b.why, strconv.FormatInt(b.backlog.GetCount(), 10), stamp(b.backlog.GetOldestAcceptTime()), stamp(b.backlog.GetNextAttemptTime()))
			}
			if !resp.GetComplete() {
				t.line("There are more than were counted.")
			}
			if f := resp.GetFailing(); f != nil {
				t.line("")
				t.field("failing since", stamp(f.GetStartTime()))
				t.field("last failure", stamp(f.GetLastFailureTime())+" "+f.GetLastErrorClass())
				t.field("disabled from", stamp(f.GetDisableTime()))
			}
		})
	})
	return c
}

func (p *program) webhooksHealth() *cobra.Command {
	c := &cobra.Command{
		Use:   "health WEBHOOK",
		Short: "Say how attempts pass to a webhook now",
		Long: "Say how attempts pass to a webhook at this moment: its breaker, what is in flight and the limits in force, as\n" +
			"the dispatcher sees it that works on its deliveries.",
		Example: "  postrider webhooks health wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.GetWebhookHealth(ctx, &postriderv1.GetWebhookHealthRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			h := resp.GetHealth()
			if h == nil {
				t.line("Not known now: no dispatcher answered that works on its deliveries.")
				return
			}
			t.field("breaker", strings.ToLower(strings.TrimPrefix(h.GetBreakerState().String(), "BREAKER_STATE_")))
			t.field("open since", stamp(h.GetBreakerOpenTime()))
			t.field("next probe", stamp(h.GetNextProbeTime()))
			t.field("failed in a row", strconv.Itoa(int(h.GetConsecutiveFailures())))
			t.field("in flight", fmt.Sprintf("%d of %d, at most %d", h.GetInFlight(), h.GetAllowedInFlight(), h.GetMaxInFlight()))
			t.field("in line", strconv.Itoa(int(h.GetQueued())))
			if rate := h.GetRateLimit(); rate > 0 {
				t.field("attempts a second", strconv.FormatFloat(rate, 'g', -1, 64))
			}
			t.field("paused until", stamp(h.GetPauseTime()))
			if use := h.GetAccount(); use != nil {
				t.field("of the account", accountUse(use))
			}
			orderingFields(t, h.GetOrdering())
		})
	})
	return c
}

// orderingFields are how the lines of an ordered webhook stand; none if it is not ordered.
func orderingFields(t *table, o *postriderv1.OrderingHealth) {
	if o == nil {
		return
	}
	t.field("lines held up", fmt.Sprintf("%d of %d", o.GetBlockedLines(), o.GetLines()))
	t.field("not ended", atLeast(o.GetWaiting(), o.GetMore()))
	if o.GetSettling() {
		t.field("settling", "what waits is being read; nothing new is attempted until then")
	}
	for _, line := range o.GetBlocked() {
		text := line.GetDeliveryId() + " since " + stamp(line.GetSince()) + ": " + line.GetReason()
		if next := line.GetNextAttemptTime(); next != nil {
			text += ", next attempt " + stamp(next)
		}
		if key := line.GetOrderingKey(); key != "" {
			text = "key " + key + ": " + text
		}
		t.field("held up by", text+", "+atLeast(line.GetBehind(), line.GetMore())+" behind")
	}
}

func atLeast(n int64, more bool) string {
	if more {
		return fmt.Sprintf("at least %d", n)
	}
	return strconv.FormatInt(n, 10)
}

// accountUse is what an account has of its own limits, of those that it has.
func accountUse(use *postriderv1.AccountUse) string {
	text := fmt.Sprintf("%d in flight", use.GetInFlight())
	if most := use.GetMaxInFlight(); most > 0 {
		text += fmt.Sprintf(" of %d", most)
	}
	if rate := use.GetRateLimit(); rate > 0 {
		text += fmt.Sprintf(", %g a second at most", rate)
	}
	return text + fmt.Sprintf(", %d in line", use.GetQueued())
}
