package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) webhooksCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "webhooks",
		Aliases: []string{"webhook"},
		Short:   "Manage webhooks: where, how and what to deliver",
		Long: `A webhook says which events of its account go to which URL, and in which form. Every change
is in force when its command returns: an event that is published after "create" reaches the
webhook, and nothing is sent any more after "pause" or "delete".`,
	}, p.webhooksCreate(), p.webhooksList(), p.webhooksGet(), p.webhooksUpdate(), p.webhooksDelete(),
		p.webhooksPause(), p.webhooksResume(), p.webhooksBacklog(), p.webhooksHealth(), p.webhooksRotate(), p.webhooksSecrets(), p.webhooksTest(),
		p.webhooksVerify(), p.webhooksHandshake(), p.webhooksExplain())
}

func (p *program) webhooksCreate() *cobra.Command {
	var flags webhookFlags
	var secretText, kind string
	c := &cobra.Command{
		Use:   "create URL",
		Short: "Make a webhook and show its secret, once",
		Example: `  postrider webhooks create https://example.com/hook --events 'release.*,track.uploaded'
  postrider webhooks create https://example.com/hook --events '*' --filter 'data.total > 100'
  postrider webhooks create https://example.com/hook --events '*' --scopes '{"project_id":[12,13]}'
  postrider webhooks create https://example.com/hook --events 'release.live' --profile jewelmusic \
      --secret file:secret.txt --header 'X-Tenant: nine' --retry-delays 1m,5m,30m --rate-limit 20`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	flags.add(f)
	f.StringVar(&flags.profile, "profile", "", "wire format, signature and retry schedule: standard (default), jewelmusic; fixed from now on")
	f.StringVar(&secretText, "secret", "", "signing secret in the profile's form; file:/path reads a file; default: generated")
	f.StringVar(&kind, "secret-kind", "", "kind of the generated secret: hmac (default) or ed25519")
	c.MarkFlagsMutuallyExclusive("secret", "secret-kind")
	_ = c.MarkFlagRequired("events")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		w, _, err := flags.webhook(f)
		if err != nil {
			return err
		}
		w.Url, w.Profile = args[0], flags.profile
		given, err := secret("--secret", secretText)
		if err != nil {
			return err
		}
		resp, err := cl.webhooks.CreateWebhook(ctx, &postriderv1.CreateWebhookRequest{
			AccountId: cl.account, Webhook: w, Secret: given, SecretKind: kind,
		})
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

// secretField shows a secret for the only time.
func secretField(t *table, text string) {
	t.field("secret", text)
	t.line("")
	t.line("Keep the secret now: it is not shown again.")
}

func (p *program) webhooksList() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List webhooks, oldest first",
		Example: "  postrider webhooks list\n  postrider webhooks list -o json | jq -r '.webhooks[].id'",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.Webhook, string, error) {
			resp, err := cl.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{AccountId: cl.account, PageSize: size, PageToken: token})
			return resp.GetWebhooks(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListWebhooksResponse{Webhooks: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "STATE", "PROFILE", "EVENTS", "URL")
			for _, w := range list {
				t.row(w.GetId(), webhookState(w), w.GetProfile(), strings.Join(w.GetEventTypes(), ","), w.GetUrl())
			}
		})
	})
	return c
}

func (p *program) webhooksGet() *cobra.Command {
	c := &cobra.Command{
		Use:     "get WEBHOOK",
		Short:   "Show a webhook",
		Example: "  postrider webhooks get wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.GetWebhook(ctx, &postriderv1.GetWebhookRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		return p.showWebhook(resp.GetWebhook())
	})
	return c
}

func (p *program) webhooksUpdate() *cobra.Command {
	var flags webhookFlags
	var url, etag string
	c := &cobra.Command{
		Use:   "update WEBHOOK",
		Short: "Change a webhook",
		Long: `Change what is named by flags and nothing else. A flag with an empty value, such as
--filter '', removes it.`,
		Example: `  postrider webhooks update wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --events '*' --filter ''
  postrider webhooks update wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --url https://example.com/new --etag 17`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	flags.add(f)
	f.StringVar(&url, "url", "", "where deliveries go")
	f.StringVar(&etag, "etag", "", "change it only if this is still its etag")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		w, mask, err := flags.webhook(f)
		if err != nil {
			return err
		}
		if f.Changed("url") {
			w.Url = url
			mask.Paths = append(mask.Paths, "url")
		}
		if len(mask.GetPaths()) == 0 {
			return usagef("name what is to change, such as --events or --url")
		}
		w.Id, w.Etag = args[0], etag
		resp, err := cl.webhooks.UpdateWebhook(ctx, &postriderv1.UpdateWebhookRequest{AccountId: cl.account, Webhook: w, UpdateMask: mask})
		if err != nil {
			return err
		}
		return p.showWebhook(resp.GetWebhook())
	})
	return c
}

func (p *program) webhooksDelete() *cobra.Command {
	var etag string
	c := &cobra.Command{
		Use:     "delete WEBHOOK",
		Short:   "Delete a webhook and cancel what waits for it",
		Example: "  postrider webhooks delete wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&etag, "etag", "", "delete it only if this is still its etag")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{AccountId: cl.account, WebhookId: args[0], Etag: etag})
		if err != nil {
			return err
		}
		return p.done(resp, "deleted %s; %d waiting deliveries cancelled", args[0], resp.GetCancelledDeliveries())
	})
	return c
}

func (p *program) showWebhook(w *postriderv1.Webhook) error {
	return p.show(w, func(t *table) { webhookFields(t, w) })
}

func webhookState(w *postriderv1.Webhook) string {
	state := enum(w.GetState(), "WEBHOOK_STATE_")
	if w.GetStateReason() != "" {
		state += " (" + w.GetStateReason() + ")"
	}
	return state
}

func webhookFields(t *table, w *postriderv1.Webhook) {
	t.field("id", w.GetId())
	t.field("name", w.GetDisplayName())
	t.field("state", webhookState(w))
	t.field("url", w.GetMethod()+" "+w.GetUrl())
	t.field("events", strings.Join(w.GetEventTypes(), ","))
	t.field("filter", w.GetFilter())
	if len(w.GetScopes().GetFields()) > 0 {
		if text, err := toJSON(w.GetScopes()); err == nil {
			t.field("scopes", string(text))
		}
	}
	t.field("profile", w.GetProfile())
	t.field("headers", pairs(w.GetHeaders()))
	t.field("attempt timeout", span(w.GetAttemptTimeout()))
	if s := w.GetRetrySchedule(); s != nil {
		t.field("retry delays", delays(s.GetDelays()))
	}
	t.field("max in flight", strconv.Itoa(int(w.GetMaxInFlight())))
	if w.RateLimit != nil {
		t.field("rate limit", strconv.FormatFloat(w.GetRateLimit(), 'g', -1, 64)+" a second")
	}
	t.field("ordering", w.GetOrdering())
	if w.TraceContext != nil {
		t.field("trace context", strconv.FormatBool(w.GetTraceContext()))
	}
	if v := w.GetVerification(); v != nil {
		t.field("verified", outcome(v.GetValid(), v.GetDetail())+", "+stamp(v.GetTime()))
	}
	if h := w.GetHandshake(); h != nil {
		t.field("consent", outcome(h.GetConsented(), h.GetDetail())+", "+stamp(h.GetTime()))
		if h.GetAllowedRate() > 0 {
			t.field("allowed rate", strconv.Itoa(int(h.GetAllowedRate()))+" a minute")
		}
	}
	for _, s := range w.GetSecrets() {
		until := ""
		if s.GetExpireTime() != nil {
			until = ", signs until " + stamp(s.GetExpireTime())
		}
		t.field("signs with", strings.TrimSpace(s.GetId()+" ("+s.GetKind()+until+") "+s.GetPublicKey()))
	}
	t.field("annotations", pairs(w.GetAnnotations()))
	t.field("uuid", w.GetUuid())
	t.field("number", strconv.FormatInt(w.GetNumber(), 10))
	t.field("created", stamp(w.GetCreateTime()))
	t.field("updated", stamp(w.GetUpdateTime()))
	t.field("etag", w.GetEtag())
}

func delays(list []*durationpb.Duration) string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = d.AsDuration().Round(time.Millisecond).String()
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}
