package profile

import (
	"fmt"
	"net/http"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// schemed is a profile that is a signature scheme and no more: the body is the event's data byte
// for byte, and the headers are the scheme's. Webhook-Id comes with it, so that receivers can drop
// what they had already.
type schemed struct {
	name   string
	scheme *signature.Scheme
}

func (p schemed) Name() string { return p.name }

func (schemed) Schedule() retry.Schedule { return standardSchedule }

func (p schemed) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	return (&rules{schedule: p.Schedule(), sets: among(p.scheme.Headers()...)}).validate(w)
}

func (p schemed) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != p.scheme.Kind() {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: fmt.Sprintf("must be %q in this profile", p.scheme.Kind())})
	}
	text, publicKey = p.scheme.GenerateSecret()
	return text, publicKey, nil
}

func (p schemed) ParseSecret(text string) (signature.Secret, error) {
	return p.scheme.ParseSecret(text)
}

func (p schemed) Render(in *Input) (*Rendered, error) {
	kind := contentType(in)
	target, err := p.scheme.Target(in.Webhook.GetUrl(), kind, in.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnrenderable, err)
	}
	return &Rendered{
		Method: http.MethodPost,
		URL:    target,
		Header: http.Header{headerContentType: {kind}, signature.HeaderID: {in.Delivery.GetEventId()}},
		Body:   in.Data,
	}, nil
}

func (p schemed) Sign(r *Rendered, in *Input, at Attempt) error {
	err := p.scheme.Sign(r.Header, signature.SchemeMessage{
		ID: in.Delivery.GetEventId(), Type: in.Delivery.GetEventType(), Delivery: in.Delivery.GetId(), Time: at.Time,
		Method: r.Method, URL: r.URL, ContentType: r.Header.Get(headerContentType), Body: r.Body,
	}, at.Secrets)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoSecret, err)
	}
	return nil
}

// custom is a scheme that the webhook itself describes. For makes it a schemed.
type custom struct{}

func (custom) Name() string { return "custom" }

func (custom) Schedule() retry.Schedule { return standardSchedule }

func (p custom) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	r := rules{schedule: p.Schedule(), options: []string{optionSignatureScheme}}
	if s, err := signature.ParseScheme(w.GetOptions().GetSignatureScheme()); err == nil {
		r.sets = among(s.Headers()...)
	}
	return r.validate(w)
}

// errUnbound means that a secret was asked for before there was a scheme.
func errUnbound() error {
	return fault.InvalidFields(fault.Violation{Field: optionsPrefix + optionSignatureScheme, Rule: "is required in this profile"})
}

func (custom) NewSecret(string) (text, publicKey string, err error) { return "", "", errUnbound() }

func (custom) ParseSecret(string) (signature.Secret, error) { return signature.Secret{}, errUnbound() }

func (custom) Render(in *Input) (*Rendered, error) {
	p, err := For(in.Webhook)
	if err != nil {
		return nil, err
	}
	return p.Render(in)
}

func (custom) Sign(r *Rendered, in *Input, at Attempt) error {
	p, err := For(in.Webhook)
	if err != nil {
		return err
	}
	return p.Sign(r, in, at)
}
