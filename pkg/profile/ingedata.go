package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// ingedataSignature is how http.Header spells the header that receivers find a plain HMAC in.
const ingedataSignature = "X-Webhook-Signature"

// ingedata is the form of developer.ingedata.ai/api/notification/webhooks, which tells of a secret
// and not of a scheme: the payload that Standard Webhooks advises, its headers, and beside them the
// hexadecimal HMAC-SHA256 over the raw body. The key is what is behind "whsec_", decoded, or else
// the secret's UTF-8 bytes.
type ingedata struct{}

func (ingedata) Name() string { return "ingedata" }

func (ingedata) Schedule() retry.Schedule { return standardSchedule }

func (p ingedata) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	return (&rules{schedule: p.Schedule(), sets: among(ingedataSignature)}).validate(w)
}

func (ingedata) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != signature.KindHMAC {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" in this profile`})
	}
	return signature.GenerateHMAC(), "", nil
}

func (ingedata) ParseSecret(text string) (signature.Secret, error) {
	if kind, ok := signature.KindOf(text); ok && kind == signature.KindHMAC {
		return signature.ParseSecret(text, signature.KindHMAC)
	}
	return signature.ParseSecret(text, signature.KindText)
}

// Render makes {"type","timestamp","data"}, compact but for the data, whose bytes are not rewritten.
func (ingedata) Render(in *Input) (*Rendered, error) {
	data := bytes.Trim(in.Data, " \t\r\n")
	if !json.Valid(data) {
		return nil, fmt.Errorf("%w: data must be JSON", ErrUnrenderable)
	}
	if err := match.CheckEventType(in.Delivery.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	body := make([]byte, 0, len(data)+len(in.Delivery.GetEventType())+len(`{"type":"","timestamp":"","data":}`)+len(time.RFC3339Nano))
	body = append(body, `{"type":"`...)
	body = append(body, in.Delivery.GetEventType()...)
	body = append(body, `","timestamp":"`...)
	body = in.Delivery.GetEventTime().AsTime().AppendFormat(body, time.RFC3339Nano)
	body = append(body, `","data":`...)
	body = append(body, data...)
	return &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{headerContentType: {jsonType}, signature.HeaderID: {in.Delivery.GetEventId()}},
		Body:   append(body, '}'),
	}, nil
}

func (ingedata) Sign(r *Rendered, in *Input, at Attempt) error {
	if len(at.Secrets) == 0 {
		return ErrNoSecret
	}
	sum := signature.HexHMAC(at.Secrets[0], r.Body)
	if sum == "" {
		return ErrNoSecret
	}
	if err := signStandard(r, in.Delivery.GetEventId(), at); err != nil {
		return err
	}
	r.Header[ingedataSignature] = []string{"sha256=" + sum}
	return nil
}
