package console

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func listWebhooks(p *page) error {
	resp, err := p.api.webhooks.ListWebhooks(p.ctx, &postriderv1.ListWebhooksRequest{AccountId: p.accountID(), PageToken: p.query("page")})
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "webhooks", p.pages.words.get("nav.webhooks"), map[string]any{
		"Webhooks": resp.GetWebhooks(), "Pager": p.pagerOf(resp.GetNextPageToken()),
	})
}

// newWebhook lets the reader choose the kind of system that the webhook speaks to, and then asks for
// what such a webhook needs, and no more.
func newWebhook(p *page) error {
	form := newWebhookForm(p.pages.words, p.query("profile"))
	if form == nil {
		return p.render(http.StatusOK, "webhook_kinds", p.pages.words.get("webhook.new"), map[string]any{"Kinds": webhookKinds})
	}
	form.defaults()
	return p.webhookPage(http.StatusOK, form, nil)
}

func createWebhook(p *page) error {
	form := newWebhookForm(p.pages.words, p.form("profile"))
	if form == nil {
		return errNoPage
	}
	form.values = p.r.PostForm
	w, errs := form.webhook()
	if len(errs) == 0 {
		resp, err := p.api.webhooks.CreateWebhook(p.ctx, &postriderv1.CreateWebhookRequest{
			AccountId: p.accountID(), Webhook: w, Secret: p.form("secret"), SecretKind: p.form("secret_kind"), Paused: p.form("paused") != "",
		})
		if err == nil {
			say := p.ok("webhook.created")
			say.Secret, say.Label = resp.GetSecret(), p.pages.words.get(secretLabel(w.GetProfile()))
			return p.redirect("webhooks/"+resp.GetWebhook().GetId(), say)
		}
		refused := false
		if errs, refused = violations(err, "webhook."); !refused {
			return err
		}
	}
	return p.webhookPage(http.StatusUnprocessableEntity, form, errs)
}

// secretLabel is the key of what such a webhook's secret is called.
func secretLabel(profile string) string {
	if profile == "labelst" {
		return "webhook.token"
	}
	return "webhook.secret"
}

func editWebhook(p *page) error {
	w, err := p.webhook()
	if err != nil {
		return err
	}
	form := newWebhookForm(p.pages.words, w.GetProfile())
	if form == nil {
		form = newWebhookForm(p.pages.words, "standard")
	}
	form.existing = w
	form.fill(w)
	return p.webhookPage(http.StatusOK, form, nil)
}

func updateWebhook(p *page) error {
	before, err := p.webhook()
	if err != nil {
		return err
	}
	form := newWebhookForm(p.pages.words, before.GetProfile())
	if form == nil {
		form = newWebhookForm(p.pages.words, "standard")
	}
	form.existing, form.values = before, p.r.PostForm
	w, errs := form.webhook()
	if len(errs) == 0 {
		w.Id, w.Etag = before.GetId(), p.form("etag")
		_, err = p.api.webhooks.UpdateWebhook(p.ctx, &postriderv1.UpdateWebhookRequest{
			AccountId: p.accountID(), Webhook: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: form.paths()},
		})
		if err == nil {
			return p.redirect("webhooks/"+before.GetId(), p.ok("webhook.saved"))
		}
		refused := false
		if errs, refused = violations(err, "webhook."); !refused {
			return err
		}
	}
	return p.webhookPage(http.StatusUnprocessableEntity, form, errs)
}

func (p *page) webhookPage(status int, form *webhookForm, errs map[string]string) error {
	form.errors = errs
	types, err := p.allEventTypes()
	if err != nil {
		return err
	}
	form.catalogue = types
	title := "webhook.new"
	if form.existing != nil {
		title = "webhook.edit"
	}
	return p.render(status, "webhook_form", p.pages.words.get(title), form)
}

func (p *page) webhook() (*postriderv1.Webhook, error) {
	resp, err := p.api.webhooks.GetWebhook(p.ctx, &postriderv1.GetWebhookRequest{AccountId: p.accountID(), WebhookId: p.r.PathValue("webhook")})
	return resp.GetWebhook(), err
}

func showWebhook(p *page) error { return p.webhookHealth(http.StatusOK, nil) }

// ranges are the lengths of time that charts show, with the step of each.
var ranges = map[string]struct{ span, step time.Duration }{
	"1h": {time.Hour, time.Minute}, "6h": {6 * time.Hour, 5 * time.Minute}, "24h": {24 * time.Hour, 20 * time.Minute}, "7d": {7 * 24 * time.Hour, 3 * time.Hour},
}

const lastErrors = 8

// webhookHealth is how a webhook is; extra is what an action on it found.
func (p *page) webhookHealth(status int, extra map[string]any) error {
	w, err := p.webhook()
	if err != nil {
		return err
	}
	id := w.GetId()
	backlog, err := p.api.webhooks.GetWebhookBacklog(p.ctx, &postriderv1.GetWebhookBacklogRequest{AccountId: p.accountID(), WebhookId: id})
	backlogAway := err != nil
	// Who works on the webhook's deliveries may be away, or just be taken over from: then this is not
	// known, and the rest of the page is shown as ever.
	health, _ := p.api.webhooks.GetWebhookHealth(p.ctx, &postriderv1.GetWebhookHealthRequest{AccountId: p.accountID(), WebhookId: id})
	span := cmp.Or(p.query("range"), "1h")
	activity, err := p.activity(id, span)
	activityAway := err != nil
	recent, err := p.api.deliveries.ListDeliveries(p.ctx, &postriderv1.ListDeliveriesRequest{AccountId: p.accountID(), WebhookId: id, PageSize: 100})
	if err != nil {
		return err
	}
	var failed []*postriderv1.Delivery
	for _, d := range recent.GetDeliveries() {
		if d.GetLastErrorClass() != "" && len(failed) < lastErrors {
			failed = append(failed, d)
		}
	}
	data := map[string]any{
		"Webhook": w, "Health": newHealthView(health.GetHealth(), p.deps.Now()), "Backlog": backlog, "BacklogAway": backlogAway, "Activity": activity, "ActivityAway": activityAway,
		"Range": span, "Failed": failed, "Any": len(recent.GetDeliveries()) > 0, "SecretLabel": p.pages.words.get(secretLabel(w.GetProfile())),
		"PublicKey": url.PathEscape(id),
	}
	maps.Copy(data, extra)
	return p.render(status, "webhook", w.GetDisplayName(), data)
}
