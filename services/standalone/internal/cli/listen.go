package cli

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/service"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const listenLong = `Receive webhooks on this machine and print each with the headers that matter and the result of
the check of its signature.

With --create it also makes a webhook that points here, learns its secret, and deletes it in the
end. Without, give it the secret of a webhook that points here; a public key (whpk_...) does for
ed25519.

It answers 200, or what --respond says: the statuses in their order, and the last one from then
on. It ends when it is interrupted or after --count requests; exit code 1 says that a signature
was wrong.`

// listener are the flags of listen.
type listener struct {
	host    string
	port    uint16
	url     string
	profile string
	secrets []string
	respond []string
	delay   time.Duration
	count   int
	create  bool
	events  []string
}

func (p *program) listenCommand() *cobra.Command {
	var l listener
	c := &cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks here, check and print them",
		Long:  listenLong,
		Example: `  postrider listen --create --events 'release.*'
  postrider listen --create --events '*' --respond 500,500,200
  postrider listen --port 8000 --secret whsec_... --count 1
  postrider listen --port 8000 --profile jewelmusic --secret file:secret.txt`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&l.host, "host", "127.0.0.1", "address to listen on")
	f.Uint16Var(&l.port, "port", 0, "port to listen on; default: a free one")
	f.StringVar(&l.profile, "profile", "standard", "form of what arrives: "+strings.Join(checkable(), ", "))
	f.StringArrayVar(&l.secrets, "secret", nil, "secret to check signatures with; file:/path reads a file; can be repeated")
	f.StringSliceVar(&l.respond, "respond", []string{"200"}, "statuses to answer with, in their order; the last one stays")
	f.DurationVar(&l.delay, "delay", 0, "how long to wait before each answer")
	f.IntVar(&l.count, "count", 0, "end after so many requests; 0 for never")
	f.BoolVar(&l.create, "create", false, "make a webhook that points here, and delete it in the end")
	f.StringSliceVar(&l.events, "events", nil, "with --create: the events that it wants")
	f.StringVar(&l.url, "url", "", "with --create: the URL at which Postrider reaches this; default: that of the listener")
	c.MarkFlagsRequiredTogether("create", "events")
	c.MarkFlagsMutuallyExclusive("create", "secret")
	c.RunE = p.local(func(ctx context.Context, _ []string) error { return p.listen(ctx, &l) })
	return c
}

// stopTimeout bounds what is done after an interruption: the last answers, and the webhook's end.
const stopTimeout = 10 * time.Second

func (p *program) listen(ctx context.Context, l *listener) (err error) {
	if l.url != "" && !l.create {
		return usagef("--url goes with --create")
	}
	statuses, err := parseStatuses(l.respond)
	if err != nil {
		return err
	}
	from := l.url // until the listener has an address
	check, err := newChecker(l.profile, l.secrets, p.now, func() string { return originOf(from) })
	if err != nil {
		return err
	}
	r := &receiver{p: p, check: check, statuses: statuses, delay: l.delay, left: l.count, enough: make(chan struct{})}
	server := service.HTTP("listen", net.JoinHostPort(l.host, strconv.Itoa(int(l.port))), r)
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, server.Stop(stop))
	}()
	here := "http://" + server.Addr().String() + "/"
	from = cmp.Or(from, here) // before the first request is looked at
	p.note("listening on %s", here)
	if l.create {
		created, err := p.createTemporary(ctx, &postriderv1.Webhook{
			Url: from, EventTypes: l.events, Profile: l.profile, DisplayName: "postrider listen",
		})
		if err != nil {
			return err
		}
		defer created.remove(ctx)
		if err := check.add(created.secret); err != nil {
			return err
		}
	}
	r.open()
	select {
	case <-ctx.Done():
	case <-r.enough:
	case err := <-server.Failed():
		return err
	}
	return r.verdict()
}

// originOf is the scheme and the authority of a URL.
func originOf(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	authority, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + authority
}

// temporary is a webhook that lives as long as this program.
type temporary struct {
	p      *program
	id     string
	secret string
}

// createTemporary makes a webhook that points to this program.
func (p *program) createTemporary(ctx context.Context, w *postriderv1.Webhook) (*temporary, error) {
	cl, err := p.connect()
	if err != nil {
		return nil, err
	}
	defer cl.close()
	resp, err := cl.webhooks.CreateWebhook(ctx, &postriderv1.CreateWebhookRequest{AccountId: cl.account, Webhook: w})
	if err != nil {
		return nil, err
	}
	p.note("webhook %s wants %s and is deleted in the end", resp.GetWebhook().GetId(), strings.Join(w.GetEventTypes(), ","))
	return &temporary{p: p, id: resp.GetWebhook().GetId(), secret: resp.GetSecret()}, nil
}

// remove deletes the webhook, also after an interruption.
func (t *temporary) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	cl, err := t.p.connect()
	if err == nil {
		defer cl.close()
		_, err = cl.webhooks.DeleteWebhook(ctx, &postriderv1.DeleteWebhookRequest{AccountId: cl.account, WebhookId: t.id})
	}
	if err != nil {
		t.p.note("webhook %s was not deleted: %s; delete it with: postrider webhooks delete %s", t.id, strings.Join(t.p.explain(err), "; "), t.id)
		return
	}
	t.p.note("deleted webhook %s", t.id)
}

// parseStatuses reads --respond.
func parseStatuses(list []string) ([]int, error) {
	out := make([]int, len(list))
	for i, text := range list {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < http.StatusOK || n > 599 {
			return nil, usagef("--respond: %q is no status from 200 to 599", text)
		}
		out[i] = n
	}
	if len(out) == 0 {
		return nil, usagef("--respond: name at least one status")
	}
	return out, nil
}
