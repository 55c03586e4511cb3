package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// The headers of JewelMusic, as http.Header spells them.
const (
	jewelPrefix          = "X-Jewelmusic-"
	jewelHeaderSignature = jewelPrefix + "Signature"
	jewelHeaderEvent     = jewelPrefix + "Event"
	jewelHeaderTimestamp = jewelPrefix + "Timestamp"

	// JewelMusicSignaturePrefix stands before the hexadecimal HMAC in X-JewelMusic-Signature.
	JewelMusicSignaturePrefix = "sha256="
)

// jewelSchedule is five attempts in all. The delays count from the end of the previous attempt: the
// source calls them exponential backoff, and 1, 5, 30, 120 is a sequence of gaps. Never early.
var jewelSchedule = retry.Schedule{
	Delays: []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour},
	Jitter: 0.1,
}

// jewelMusic is the form of jewelmusic.art/docs/webhooks: an envelope around the data, and one
// hexadecimal HMAC over the raw body, keyed with the secret's text.
//
// The source's own handler compares the whole signature header with timingSafeEqual, which throws
// on any other length, so the header always holds one signature, the newest secret's. So that
// rotation has an overlap all the same, deliveries carry the headers of Standard Webhooks too,
// signed with every secret in force, whose keys are the UTF-8 bytes of the texts: extra headers
// disturb no handler of the source, and bind id and time for receivers that want it.
type jewelMusic struct{}

func (jewelMusic) Name() string { return "jewelmusic" }

func (jewelMusic) Schedule() retry.Schedule { return jewelSchedule }

func (p jewelMusic) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	out := validatePost(w, p.Schedule())
	for name := range w.GetHeaders() {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), jewelPrefix) {
			out = append(out, fault.Violation{Field: headerField(name), Rule: "is set by the profile"})
		}
	}
	return sorted(out)
}

func (jewelMusic) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != signature.KindHMAC {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" in this profile`})
	}
	return signature.GenerateText(), "", nil
}

func (jewelMusic) ParseSecret(text string) (signature.Secret, error) {
	return signature.ParseSecret(text, signature.KindText)
}

func (jewelMusic) Render(in *Input) (*Rendered, error) {
	body, err := jewelBody(in)
	if err != nil {
		return nil, err
	}
	return &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{
			headerContentType:  {jsonType},
			jewelHeaderEvent:   {in.Delivery.GetEventType()},
			signature.HeaderID: {in.Delivery.GetEventId()},
		},
		Body: body,
	}, nil
}

// jewelBody puts {"id","type","created","data"} together by concatenation, compact and in this
// order. The data's bytes are not rewritten: for a producer whose data are as JSON.stringify writes
// them, the body is as JSON.stringify writes it, which is what the source's handler hashes.
// Whitespace around the data's value is not part of the value, and is left out.
func jewelBody(in *Input) ([]byte, error) {
	data := bytes.Trim(in.Data, " \t\r\n") // JSON's whitespace (RFC 8259), no other
	if len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return nil, fmt.Errorf("%w: data must be a JSON object", ErrUnrenderable)
	}
	d := in.Delivery
	// Ids and event types hold nothing that JSON escapes; what is not so was not made by us.
	if err := match.CheckEventType(d.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	if err := match.CheckEventType(d.GetEventId()); err != nil {
		return nil, fmt.Errorf("%w: event id %w", ErrUnrenderable, err)
	}
	b := make([]byte, 0, len(data)+len(d.GetEventType())+len(d.GetEventId())+len(`{"id":"","type":"","created":-9223372036854775808,"data":}`))
	b = append(b, `{"id":"`...)
	b = append(b, d.GetEventId()...)
	b = append(b, `","type":"`...)
	b = append(b, d.GetEventType()...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, d.GetEventTime().GetSeconds(), 10)
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}'), nil
}

func (jewelMusic) Sign(r *Rendered, in *Input, at Attempt) error {
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
	r.Header[jewelHeaderSignature] = []string{JewelMusicSignaturePrefix + sum}
	r.Header[jewelHeaderTimestamp] = r.Header[signature.HeaderTimestamp]
	return nil
}
