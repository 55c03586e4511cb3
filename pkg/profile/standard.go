package profile

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// standardSchedule is the example of Standard Webhooks 1.0.0: at once, then after these delays;
// the tenth and last attempt is 75:35:05 after the first.
var standardSchedule = retry.Schedule{
	Delays: []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	},
	Jitter: 0.1,
	Early:  true,
}

// standard is Standard Webhooks 1.0.0: the body is the event's data byte for byte, the message id
// is the event's, and the signatures are v1 or v1a by the kind of each secret.
type standard struct{}

func (standard) Name() string { return "standard" }

func (standard) Schedule() retry.Schedule { return standardSchedule }

func (p standard) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	return (&rules{schedule: p.Schedule()}).validate(w)
}

func (standard) NewSecret(kind string) (text, publicKey string, err error) {
	switch kind {
	case "", signature.KindHMAC:
		return signature.GenerateHMAC(), "", nil
	case signature.KindEd25519:
		text, publicKey = signature.GenerateEd25519()
		return text, publicKey, nil
	}
	return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" or "ed25519"`})
}

func (standard) ParseSecret(text string) (signature.Secret, error) {
	kind, ok := signature.KindOf(text)
	if !ok {
		kind = signature.KindHMAC // whose error names the prefix
	}
	return signature.ParseSecret(text, kind)
}

func (standard) Render(in *Input) (*Rendered, error) {
	return &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{headerContentType: {contentType(in)}, signature.HeaderID: {in.Delivery.GetEventId()}},
		Body:   in.Data,
	}, nil
}

// contentType is that of the event's data.
func contentType(in *Input) string { return cmp.Or(in.Delivery.GetContentType(), jsonType) }

func (standard) Sign(r *Rendered, in *Input, at Attempt) error {
	return signStandard(r, in.Delivery.GetEventId(), at)
}

// signStandard sets the headers of Standard Webhooks that belong to an attempt.
func signStandard(r *Rendered, id string, at Attempt) error {
	value := signature.StandardWebhooks(id, at.Time, r.Body, at.Secrets)
	if value == "" {
		return ErrNoSecret
	}
	r.Header[signature.HeaderTimestamp] = []string{strconv.FormatInt(at.Time.Unix(), 10)}
	r.Header[signature.HeaderSignature] = []string{value}
	return nil
}
