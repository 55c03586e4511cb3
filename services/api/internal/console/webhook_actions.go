package console

import (
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func pauseWebhook(p *page) error {
	id := p.r.PathValue("webhook")
	if _, err := p.api.webhooks.PauseWebhook(p.ctx, &postriderv1.PauseWebhookRequest{AccountId: p.accountID(), WebhookId: id}); err != nil {
		return err
	}
	return p.redirect("webhooks/"+id, p.ok("webhook.paused"))
}

func resumeWebhook(p *page) error {
	id := p.r.PathValue("webhook")
	if _, err := p.api.webhooks.ResumeWebhook(p.ctx, &postriderv1.ResumeWebhookRequest{AccountId: p.accountID(), WebhookId: id}); err != nil {
		return err
	}
	return p.redirect("webhooks/"+id, p.ok("webhook.resumed"))
}

func rotateSecret(p *page) error {
	id := p.r.PathValue("webhook")
	req := &postriderv1.RotateWebhookSecretRequest{AccountId: p.accountID(), WebhookId: id}
	if hours, err := strconv.Atoi(p.form("overlap")); err == nil {
		req.Overlap = durationpb.New(time.Duration(hours) * time.Hour)
	}
	resp, err := p.api.webhooks.RotateWebhookSecret(p.ctx, req)
	if err != nil {
		return err
	}
	say := p.ok("webhook.rotated")
	say.Secret, say.Label = resp.GetSecret(), p.pages.words.get(secretLabel(resp.GetWebhook().GetProfile()))
	return p.redirect("webhooks/"+id, say)
}

// showSecrets shows the values of the secrets on the webhook's own page, in the answer to a form, so
// that no address shows them.
func showSecrets(p *page) error {
	resp, err := p.api.webhooks.GetWebhookSecrets(p.ctx, &postriderv1.GetWebhookSecretsRequest{AccountId: p.accountID(), WebhookId: p.r.PathValue("webhook")})
	if err != nil {
		return err
	}
	return p.webhookHealth(http.StatusOK, map[string]any{"Secrets": resp.GetSecrets()})
}

// testWebhook sends one event now and shows how it went.
func testWebhook(p *page) error {
	req := &postriderv1.TestWebhookRequest{AccountId: p.accountID(), WebhookId: p.r.PathValue("webhook")}
	if name := p.form("type"); name != "" {
		req.Event = &postriderv1.EventInput{Type: name, Data: []byte(p.form("data"))}
		if len(req.GetEvent().GetData()) == 0 {
			req.Event.Data = p.exampleOf(name)
		}
	}
	resp, err := p.api.webhooks.TestWebhook(p.ctx, req)
	if errs, refused := violations(err, ""); refused {
		return p.webhookHealth(http.StatusUnprocessableEntity, map[string]any{"TestRefused": errs})
	}
	if err != nil {
		return err
	}
	return p.webhookHealth(http.StatusOK, map[string]any{"Test": resp})
}

// exampleOf is the catalogue's example of an event type, or an empty object.
func (p *page) exampleOf(name string) []byte {
	resp, err := p.api.eventTypes.GetEventType(p.ctx, &postriderv1.GetEventTypeRequest{AccountId: p.accountID(), Name: name})
	if err != nil || len(resp.GetEventType().GetExample()) == 0 {
		return []byte("{}")
	}
	return resp.GetEventType().GetExample()
}

// askReceiver asks a receiver to tell its token from another, or for its consent.
func askReceiver(p *page) error {
	w, err := p.webhook()
	if err != nil {
		return err
	}
	if w.GetProfile() == "labelst" {
		_, err = p.api.webhooks.VerifyWebhook(p.ctx, &postriderv1.VerifyWebhookRequest{AccountId: p.accountID(), WebhookId: w.GetId()})
	} else {
		_, err = p.api.webhooks.HandshakeWebhook(p.ctx, &postriderv1.HandshakeWebhookRequest{AccountId: p.accountID(), WebhookId: w.GetId()})
	}
	if err != nil {
		return err
	}
	return p.redirect("webhooks/"+w.GetId(), p.ok("webhook.asked"))
}

func deleteWebhook(p *page) error {
	resp, err := p.api.webhooks.DeleteWebhook(p.ctx, &postriderv1.DeleteWebhookRequest{AccountId: p.accountID(), WebhookId: p.r.PathValue("webhook")})
	if err != nil {
		return err
	}
	return p.redirect("webhooks", p.ok("webhook.deleted", resp.GetCancelledDeliveries()))
}
