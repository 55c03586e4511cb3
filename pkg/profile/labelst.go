package profile

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

const (
	tokenPrefix = "whtok_"
	tokenBytes  = 16
)

// labelst is the form of docs.labelst.art/integrations/webhooks: the body holds the webhook's
// token, by which receivers know who sent it, and the payload of the request that caused the
// event, byte for byte. The token is the webhook's secret, and stands nowhere but in the body. So
// that receivers may have more than a bearer token, deliveries also carry the headers of Standard
// Webhooks, whose key is the UTF-8 bytes of the token.
type labelst struct{}

func (labelst) Name() string { return "labelst" }

func (labelst) Schedule() retry.Schedule { return standardSchedule }

// ValidateWebhook refuses every choice of events: the source has none.
func (p labelst) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	const rule = "must be left out in this profile: its webhooks get every event"
	out := (&rules{schedule: p.Schedule(), options: []string{optionRequireVerification}}).validate(w)
	if types := w.GetEventTypes(); len(types) > 1 || len(types) == 1 && types[0] != "*" {
		out = append(out, fault.Violation{Field: "webhook.event_types", Rule: `must be "*" alone in this profile: its webhooks get every event`})
	}
	if w.GetFilter() != "" {
		out = append(out, fault.Violation{Field: "webhook.filter", Rule: rule})
	}
	if len(w.GetScopes().GetFields()) > 0 {
		out = append(out, fault.Violation{Field: "webhook.scopes", Rule: rule})
	}
	return sorted(out)
}

func (labelst) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != signature.KindHMAC {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" in this profile`})
	}
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return tokenPrefix + hex.EncodeToString(b[:]), "", nil
}

func (labelst) ParseSecret(text string) (signature.Secret, error) {
	digits, ok := strings.CutPrefix(text, tokenPrefix)
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != tokenBytes || strings.ToLower(digits) != digits {
		return signature.Secret{}, fmt.Errorf("must be %q and %d hexadecimal digits in lower case", tokenPrefix, 2*tokenBytes)
	}
	return signature.ParseSecret(text, signature.KindText)
}

// Render makes what stands around the token: {"token","type","request"}, in this order.
func (labelst) Render(in *Input) (*Rendered, error) {
	if !json.Valid(in.Data) {
		return nil, fmt.Errorf("%w: data must be JSON", ErrUnrenderable)
	}
	// Event types hold nothing that JSON escapes; what is not so was not made by us.
	if err := match.CheckEventType(in.Delivery.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	r := &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{headerContentType: {jsonType}, signature.HeaderID: {in.Delivery.GetEventId()}},
		before: []byte(`{"token":"`),
		after:  make([]byte, 0, len(in.Data)+len(in.Delivery.GetEventType())+len(`","type":"","request":}`)),
	}
	r.after = append(r.after, `","type":"`...)
	r.after = append(r.after, in.Delivery.GetEventType()...)
	r.after = append(r.after, `","request":`...)
	r.after = append(r.after, in.Data...)
	r.after = append(r.after, '}')
	return r, nil
}

// Sign puts the newest token in. Old ones are still valid where receivers ask the platform.
func (labelst) Sign(r *Rendered, in *Input, at Attempt) error {
	if len(at.Secrets) == 0 || at.Secrets[0].Reveal() == "" {
		return ErrNoSecret
	}
	r.Body = r.around(at.Secrets[0].Reveal())
	r.Sensitive = r.Sensitive[:0]
	for _, s := range at.Secrets {
		r.Sensitive = append(r.Sensitive, s.Reveal())
	}
	return signStandard(r, in.Delivery.GetEventId(), at)
}
